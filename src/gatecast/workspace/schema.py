"""The tables of workspace.db, all of them; docs/spec/workspace.md describes them.

Each noun owns its list. `BLOBS_IN_USE` are queries that give the digests of blobs that rows refer to: a blob
that none of them gives is removed.
"""

VERSION = 1
"""Of the tables, as `PRAGMA user_version`. A change that an older Gatecast cannot read counts it up."""

SETTINGS = (
    """CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID""",
    # The last version that was given to a name: a version is never used again, not even after a delete.
    """CREATE TABLE counters (
        noun TEXT NOT NULL, name TEXT NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (noun, name)
    ) STRICT, WITHOUT ROWID""",
)

MODELS = (
    """CREATE TABLE models (
        name TEXT NOT NULL, version INTEGER NOT NULL,
        digest TEXT NOT NULL, size INTEGER NOT NULL, is_folder INTEGER NOT NULL, file_name TEXT NOT NULL,
        tags TEXT NOT NULL, properties TEXT NOT NULL, description TEXT NOT NULL,
        created_time TEXT NOT NULL, parent TEXT,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE model_files (
        name TEXT NOT NULL, version INTEGER NOT NULL,
        path TEXT NOT NULL, size INTEGER NOT NULL, digest TEXT NOT NULL,
        PRIMARY KEY (name, version, path),
        FOREIGN KEY (name, version) REFERENCES models ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID""",
)

OPERATIONS = (
    """CREATE TABLE operations (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, subject TEXT NOT NULL, request TEXT NOT NULL,
        state TEXT NOT NULL, created_time TEXT NOT NULL, ended_time TEXT,
        error TEXT NOT NULL, result TEXT, process TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE INDEX operations_by_time ON operations (created_time)""",
)

IMAGES = (
    """CREATE TABLE images (
        name TEXT NOT NULL, version INTEGER NOT NULL,
        state TEXT NOT NULL, target TEXT NOT NULL, digest TEXT, size INTEGER NOT NULL,
        tags TEXT NOT NULL, properties TEXT NOT NULL, labels TEXT NOT NULL, description TEXT NOT NULL,
        created_time TEXT NOT NULL,
        operation TEXT NOT NULL REFERENCES operations,
        PRIMARY KEY (name, version)
    ) STRICT, WITHOUT ROWID""",
    # A model that an image is made of stays.
    """CREATE TABLE image_models (
        name TEXT NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL,
        model_name TEXT NOT NULL, model_version INTEGER NOT NULL,
        PRIMARY KEY (name, version, position),
        FOREIGN KEY (name, version) REFERENCES images ON DELETE CASCADE,
        FOREIGN KEY (model_name, model_version) REFERENCES models ON DELETE RESTRICT
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE image_blobs (
        name TEXT NOT NULL, version INTEGER NOT NULL, position INTEGER NOT NULL,
        kind TEXT NOT NULL, digest TEXT NOT NULL, size INTEGER NOT NULL,
        PRIMARY KEY (name, version, position),
        FOREIGN KEY (name, version) REFERENCES images ON DELETE CASCADE
    ) STRICT, WITHOUT ROWID""",
    # An image whose operation ends without it cannot stay "Creating", whoever ends the operation.
    """CREATE TRIGGER image_operation_ended AFTER UPDATE OF state ON operations
        WHEN NEW.kind = 'image' AND NEW.state IN ('Failed', 'Cancelled')
        BEGIN UPDATE images SET state = 'Failed' WHERE operation = NEW.id AND state = 'Creating'; END""",
)

COMPUTES = (
    """CREATE TABLE computes (
        name TEXT PRIMARY KEY, kind TEXT NOT NULL, nodes INTEGER NOT NULL, state TEXT NOT NULL,
        tags TEXT NOT NULL, properties TEXT NOT NULL, description TEXT NOT NULL, created_time TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
)

SERVICES = (
    # A new `generation` needs new processes. The image is NULL only while the service is being deleted, when
    # the image that was made for it, `implicit_image`, goes too.
    """CREATE TABLE services (
        name TEXT PRIMARY KEY,
        compute TEXT NOT NULL REFERENCES computes ON DELETE RESTRICT,
        image_name TEXT, image_version INTEGER, implicit_image TEXT NOT NULL,
        models TEXT NOT NULL, replicas INTEGER NOT NULL, threads INTEGER, memory INTEGER NOT NULL,
        generation INTEGER NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL,
        tags TEXT NOT NULL, properties TEXT NOT NULL, description TEXT NOT NULL,
        created_time TEXT NOT NULL, updated_time TEXT NOT NULL,
        FOREIGN KEY (image_name, image_version) REFERENCES images ON DELETE RESTRICT
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE replicas (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        service TEXT NOT NULL REFERENCES services ON DELETE RESTRICT,
        image_name TEXT NOT NULL, image_version INTEGER NOT NULL,
        generation INTEGER NOT NULL, node INTEGER NOT NULL, memory INTEGER NOT NULL,
        state TEXT NOT NULL, process TEXT NOT NULL, address TEXT NOT NULL, rest_address TEXT NOT NULL,
        created_time TEXT NOT NULL, ready_time TEXT, stopped_time TEXT,
        FOREIGN KEY (image_name, image_version) REFERENCES images ON DELETE RESTRICT
    ) STRICT""",
    # `known` says that it has answered at this address; while it is started again the address stays.
    """CREATE TABLE front_door (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        process TEXT NOT NULL, host TEXT NOT NULL, port INTEGER NOT NULL, rest_port INTEGER NOT NULL,
        ready INTEGER NOT NULL, known INTEGER NOT NULL
    ) STRICT""",
)

TABLES = SETTINGS + MODELS + OPERATIONS + IMAGES + COMPUTES + SERVICES

BLOBS_IN_USE = (
    "SELECT digest FROM model_files",
    "SELECT digest FROM image_blobs",
)

OPERATIONS_IN_USE = "SELECT operation FROM images"
"""Ids of the operations that rows refer to: their logs are those of what they made."""
