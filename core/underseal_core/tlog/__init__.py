"""A transparency log in the C2SP formats, for what guardians intend and release.

Pure: :mod:`tree` (hashes and proofs), :mod:`layout` (paths and bundles), :mod:`note`,
:mod:`checkpoint`, :mod:`proof` (receipts), :mod:`verifier` (shares no code with :mod:`tree`).
Files: :mod:`disk`, :mod:`tiles` (reading), :mod:`log` (the one writer), :mod:`audit`
(recomputes a log from its entries), :mod:`witness` (cosigns what only grew).
"""
