"""Records: chunks of a bundle's unpacked bytes in, RECORD lines out.

reader   unpacked bytes to chunks of whole events, with the position of each
encoder  chunks to RECORD lines: the reference encoder, and the choice of the fast one
native   the fast encoder, where _native.c is compiled
rest     records of the REST streams
"""
