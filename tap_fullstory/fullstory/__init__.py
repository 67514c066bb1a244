"""FullStory over HTTP: one authenticated session, with retries, resumable downloads and safe logs.

client       FullStory's APIs as typed calls
session      the API key, redirects, and what is in an API's answer
connections  one for each request, or kept alive
retry        what is tried again, how long it waits, and when it gives up
download     a body written to a file, resumed where it broke off
responses    headers parsed, what each status code means, bodies read up to a limit
urls         what of a URL may be logged, where a redirect may lead
failures     what the network, a proxy or a CA bundle did wrong, in words
"""
