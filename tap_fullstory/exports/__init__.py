"""Exports: which bundles there are, from which API, and their files on disk, verified.

bundle          one export file: its id and its period
sources         what every source of bundles offers, and which one the config asks for
data_export     bundles that FullStory has made, by listing
segment_export  exports made to order, one for each window of time
spool           a bundle's file: downloaded, verified, prefetched
unpack          a file's bytes, unpacked, and the check that they are complete
"""
