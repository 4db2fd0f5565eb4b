-- What scans of images said. BYTEA is a name that SQLite takes for anything, and stores bytes as bytes.

-- +goose Up
-- One row for each digest; the columns beside the report are what lists show and sort by.
CREATE TABLE image_reports (
	digest TEXT PRIMARY KEY,
	scanned BIGINT NOT NULL,   -- its layers were looked at
	matched BIGINT NOT NULL,   -- its packages were looked up
	database TEXT NOT NULL,    -- in which vulnerability database
	os TEXT NOT NULL,
	critical INTEGER NOT NULL,
	high INTEGER NOT NULL,
	medium INTEGER NOT NULL,
	low INTEGER NOT NULL,
	unknown INTEGER NOT NULL,
	kev INTEGER NOT NULL,
	fixable INTEGER NOT NULL,
	malware INTEGER NOT NULL,
	webshell INTEGER NOT NULL,
	secret INTEGER NOT NULL,
	misconfig INTEGER NOT NULL,
	eol INTEGER NOT NULL,
	packages INTEGER NOT NULL,
	layers INTEGER NOT NULL,
	base_layers INTEGER NOT NULL,
	base_vulnerabilities INTEGER NOT NULL,
	incomplete INTEGER NOT NULL,
	body BYTEA NOT NULL        -- the report as JSON, gzip
);
CREATE INDEX image_reports_scanned ON image_reports (scanned);

-- The names under which images are known, each of the digest that it had when it was last looked at.
CREATE TABLE images (
	reference TEXT PRIMARY KEY,
	repository TEXT NOT NULL,
	digest TEXT NOT NULL REFERENCES image_reports (digest) ON DELETE CASCADE,
	seen BIGINT NOT NULL
);
CREATE INDEX images_digest ON images (digest);
CREATE INDEX images_repository ON images (repository);

-- How a name fared: a point for each change.
CREATE TABLE image_points (
	reference TEXT NOT NULL REFERENCES images (reference) ON DELETE CASCADE,
	at BIGINT NOT NULL,
	digest TEXT NOT NULL,
	critical INTEGER NOT NULL,
	high INTEGER NOT NULL,
	medium INTEGER NOT NULL,
	low INTEGER NOT NULL,
	unknown INTEGER NOT NULL,
	kev INTEGER NOT NULL,
	findings INTEGER NOT NULL,
	PRIMARY KEY (reference, at)
);

-- Vulnerabilities that became known after the image was scanned.
CREATE TABLE image_news (
	digest TEXT NOT NULL REFERENCES image_reports (digest) ON DELETE CASCADE,
	id TEXT NOT NULL,
	package TEXT NOT NULL,
	version TEXT NOT NULL,
	severity TEXT NOT NULL,
	kev INTEGER NOT NULL,
	at BIGINT NOT NULL,
	PRIMARY KEY (digest, id, package, version)
);
CREATE INDEX image_news_at ON image_news (at);

-- The queue, and what became of it.
CREATE TABLE image_scans (
	id TEXT PRIMARY KEY,
	subject TEXT NOT NULL,     -- what is scanned once, however many ask for it at the same time
	reference TEXT NOT NULL,   -- under which it is known afterwards
	target TEXT NOT NULL,      -- what is pulled
	reason TEXT NOT NULL,
	asked_by TEXT NOT NULL,
	state TEXT NOT NULL,       -- queued, running, done, failed
	error TEXT NOT NULL,
	digest TEXT NOT NULL,
	tries INTEGER NOT NULL,
	created BIGINT NOT NULL,
	ended BIGINT NOT NULL
);
CREATE UNIQUE INDEX image_scans_active ON image_scans (subject) WHERE state IN ('queued', 'running');
CREATE INDEX image_scans_state ON image_scans (state, created);
CREATE INDEX image_scans_subject ON image_scans (subject, created);
CREATE INDEX image_scans_created ON image_scans (created);

-- Repositories whose tags are scanned again and again.
CREATE TABLE image_watches (
	repository TEXT PRIMARY KEY,
	every BIGINT NOT NULL,     -- seconds
	tags TEXT NOT NULL,        -- patterns, one a line; empty: all
	last BIGINT NOT NULL,
	next BIGINT NOT NULL,
	error TEXT NOT NULL,
	asked_by TEXT NOT NULL
);

-- Tokens of registries that tell of what was pushed.
CREATE TABLE image_hooks (
	id TEXT PRIMARY KEY,
	hash TEXT NOT NULL UNIQUE, -- of the token; the token itself is nowhere
	registry TEXT NOT NULL,    -- empty: Harbor says which
	created BIGINT NOT NULL,
	used BIGINT NOT NULL,
	asked_by TEXT NOT NULL
);

-- +goose Down
DROP TABLE image_hooks;
DROP TABLE image_watches;
DROP TABLE image_scans;
DROP TABLE image_news;
DROP TABLE image_points;
DROP TABLE images;
DROP TABLE image_reports;
