"""How much of anything a recording may hold, so that reading any file stays below 512 MiB.

Reading holds, at the same time and at the worst: the message that the caller still has and the one
that is read next (two of MAX_MESSAGE_BYTES), the chunks that overlap in time (MAX_OPEN_BYTES, what
goes beyond lies in a scratch file), their message indexes (32 bytes for each of
MAX_OPEN_MESSAGES), and the list of all chunks (32 bytes for each of MAX_CHUNKS). Recorders are far
below all of it: they write chunks of 768 KiB to a few MiB plus one message, and the largest
sensor message in use is a picture of 8K cameras (95 MiB).
"""

MAX_MESSAGE_BYTES = 128 * 2**20
MAX_LISTED_OBJECTS = 2**20  # messages and texts in the lists of one message, 160 bytes each
MAX_CHUNK_BYTES = 256 * 2**20  # inflated; on disk when it is more than MAX_OPEN_BYTES
MAX_CHUNKS = 2**21
MAX_CHANNELS = 2**16
MAX_DEFINITION_BYTES = 2**18  # of one type with all that it refers to; real ones stay below 80 KB
MAX_FIELDS = 2**11  # of one type with all that it refers to, fixed arrays of objects counted whole
MAX_COMPILED_FIELDS = 2**12  # of all types that are ready to decode with, 13 KB each
MAX_TEXT_BYTES = 16 * 2**20  # of all definitions and names of a file, equal ones counted once

MAX_OPEN_BYTES = 64 * 2**20
MAX_OPEN_CHUNKS = 2**14
MAX_OPEN_MESSAGES = 2**20
MAX_SCRATCH_BYTES = 2 * 2**30
MAX_WINDOW_BYTES = 64 * 2**20  # what zstd looks back; its own levels up to 21 stay within
