"""HTTP to FullStory: one authenticated session, with retries, resumable downloads and safe logs.

session   the API key, redirects, time-outs, and the limit on what an answer may hold
retry     what is tried again, how long it waits, and when it gives up
status    what each status code means to the user
download  a body written to a file, resumed where it broke off
headers   response headers parsed, transport errors described
urls      what of a URL may be logged, where a redirect may lead
"""
