-- The database of the index. It is a cache of S3: one of another version is made anew, never changed to fit.
-- Times are milliseconds since 1970 in UTC, unless the column says seconds.

-- A place in S3 below which event logs lie.
CREATE TABLE source (
    id      INTEGER PRIMARY KEY,
    uri     TEXT NOT NULL UNIQUE, -- s3://BUCKET/PREFIX/, whatever scheme the user wrote
    listed  INTEGER,              -- when the last complete listing began; NULL before the first one has ended
    looked  INTEGER,              -- when the last look or listing began
    foreign_objects INTEGER NOT NULL DEFAULT 0, -- objects of the last complete listing that belong to no event log
    foreign_example TEXT          -- the key of one of them
) STRICT;

-- An event log in S3: one object, or the directory of a rolling event log.
CREATE TABLE log (
    id        INTEGER PRIMARY KEY,
    source    INTEGER NOT NULL REFERENCES source,
    key       TEXT NOT NULL,    -- below the source's prefix; a directory ends in a slash
    size      INTEGER NOT NULL, -- of all its objects with events, in bytes
    modified  INTEGER NOT NULL, -- when the newest of its objects was written, in seconds
    etag      TEXT NOT NULL,    -- of the newest object with events: tells two objects of one size and one second apart
    parts     TEXT,             -- the objects of a rolling log that have events, in Spark's order: [[name, size], …]; NULL for
                                -- a log that is one object, and once a log has been read
    is_closed INTEGER NOT NULL, -- whether the log's name says that Spark has finished writing it
    codec     TEXT NOT NULL,    -- none, zstd, lz4, snappy, lzf, or a word that is no codec of Spark's
    state     INTEGER NOT NULL, -- 0 unread, 1 only its head and its tail are read and it has to be read whole, 2 read,
                                -- 3 no application can be listed for it
    problem   TEXT,             -- why state is 3, or why the last reading failed
    tries     INTEGER NOT NULL DEFAULT 0, -- how many readings in a row have failed
    next_try  INTEGER NOT NULL DEFAULT 0, -- before that time it is not read again
    UNIQUE (source, key)
) STRICT;

CREATE INDEX log_to_read ON log (state, id) WHERE state < 2;
CREATE INDEX log_modified ON log (source, modified);
CREATE INDEX log_without_application ON log (source) WHERE problem IS NOT NULL;

-- A job run of EMR Serverless that has no event log yet, or one that Spark has not closed.
CREATE TABLE run (
    source  INTEGER NOT NULL,
    key     TEXT NOT NULL,    -- its directory, below the source's prefix
    changed INTEGER NOT NULL, -- when a listing last found something new in it, or found it
    listed  INTEGER NOT NULL, -- when it was last listed
    PRIMARY KEY (source, key)
) STRICT, WITHOUT ROWID;

-- An attempt of an application, as the event log itself tells it.
CREATE TABLE attempt (
    id        INTEGER PRIMARY KEY, -- when it started, times 2^20, and some bits more that tell attempts apart: the order of
                                   -- this table is the order of the list
    log       INTEGER NOT NULL UNIQUE REFERENCES log,
    source    INTEGER NOT NULL,    -- as in log
    is_hidden INTEGER NOT NULL,    -- 1 if another event log of the source tells more about the same attempt; here, because searches read it
    app       TEXT NOT NULL,       -- the application's id
    attempt   TEXT,                -- NULL where the application has no numbered attempts
    name      TEXT NOT NULL,
    user      TEXT NOT NULL COLLATE NOCASE, -- people search hadoop and Hadoop
    queue     TEXT,                -- of YARN; NULL if the log does not name it
    spark     TEXT,                -- the version of Spark that wrote the log
    started   INTEGER NOT NULL,
    ended     INTEGER,             -- NULL if the log has no end of the application
    is_ended_guessed INTEGER NOT NULL, -- 1 if the end is not read yet, and `ended` is when the object was written
    modified  INTEGER NOT NULL,    -- as in log, in seconds
    size      INTEGER NOT NULL     -- as in log, in bytes
) STRICT;

CREATE INDEX attempt_app ON attempt (app, attempt, is_hidden);
CREATE INDEX attempt_user ON attempt (user, is_hidden);
CREATE INDEX attempt_running ON attempt (id) WHERE ended IS NULL;

-- How many attempts the list shows of each span of time: a count, and a page far behind, need not visit every attempt.
CREATE TABLE span (
    span    INTEGER NOT NULL, -- the id of an attempt, divided by 2^42: some 73 minutes
    source  INTEGER NOT NULL, -- as in attempt
    shown   INTEGER NOT NULL, -- attempts that started in the span and are not hidden
    running INTEGER NOT NULL, -- those of them that have no end
    PRIMARY KEY (span, source)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER attempt_comes AFTER INSERT ON attempt WHEN new.is_hidden = 0 BEGIN
    INSERT INTO span VALUES (new.id >> 42, new.source, 1, new.ended IS NULL)
    ON CONFLICT DO UPDATE SET shown = shown + 1, running = running + excluded.running;
END;
CREATE TRIGGER attempt_goes AFTER DELETE ON attempt WHEN old.is_hidden = 0 BEGIN
    UPDATE span SET shown = shown - 1, running = running - (old.ended IS NULL)
    WHERE span = old.id >> 42 AND source = old.source;
END;
CREATE TRIGGER attempt_turns AFTER UPDATE OF is_hidden ON attempt WHEN old.is_hidden <> new.is_hidden BEGIN
    INSERT INTO span VALUES (new.id >> 42, new.source, 0, 0) ON CONFLICT DO NOTHING;
    UPDATE span SET shown = shown + iif(new.is_hidden, -1, 1), running = running + iif(new.is_hidden, -1, 1) * (new.ended IS NULL)
    WHERE span = new.id >> 42 AND source = new.source;
END;

-- Substrings of three characters of each attempt's name, id and user, whatever their case. A search takes the rare ones of its
-- text from here and compares the whole text itself, so positions are not kept.
CREATE VIRTUAL TABLE words USING fts5 (
    name, app, user,
    content = '', contentless_delete = 1, tokenize = 'trigram', detail = none
);
-- So many bytes of words are gathered in memory before they are written.
INSERT INTO words (words, rank) VALUES ('hashsize', 16777216);

-- Facts about the database itself: `snapshot_etag`, `requests_list`, …
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
