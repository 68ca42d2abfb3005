-- Callbacks to a connection's fixed URL that name a vendor job of which relay does not know (yet). `request` is sealed.
CREATE TABLE stray (
    key           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id            text COLLATE "C" NOT NULL UNIQUE,
    connection    text COLLATE "C" NOT NULL,
    vendor_job_id text COLLATE "C" NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    request       text             NOT NULL,
    came_at       double precision NOT NULL,
    UNIQUE (connection, digest)
);
CREATE INDEX stray_came ON stray (came_at);
