"""HTTP to FullStory: one authenticated session, with retries, resumable downloads and safe logs.

session      the API key, redirects, and what an API's answer holds
connections  one for each request, or kept alive
retry        what is tried again, how long it waits, and when it gives up
status       what each status code means to the user
body         a body read into memory, up to a limit
download     a body written to a file, resumed where it broke off
headers      response headers, parsed
urls         what of a URL may be logged, where a redirect may lead
failures     what the network, a proxy or a CA bundle did wrong, in words
"""
