"""The page in a browser, and the same functions over HTTP; needs the extra `web`."""
