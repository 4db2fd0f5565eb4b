-- Who talked to whom.

-- +goose Up
-- An edge's number is made of its other columns (store/flows.go), so that whoever sees it knows the number.
CREATE TABLE flow_edges (
	id BIGINT PRIMARY KEY,
	cluster TEXT NOT NULL,
	source_kind TEXT NOT NULL,
	source TEXT NOT NULL,
	destination_kind TEXT NOT NULL,
	destination TEXT NOT NULL,
	protocol TEXT NOT NULL,
	port INTEGER NOT NULL,
	application TEXT NOT NULL, -- empty: not recognised yet
	first BIGINT NOT NULL,
	last BIGINT NOT NULL
);
CREATE INDEX flow_edges_source ON flow_edges (source);
CREATE INDEX flow_edges_destination ON flow_edges (destination);
CREATE INDEX flow_edges_last ON flow_edges (last);

-- What was seen of it, by minute for a day and by hour for longer. Either end may have seen it: 1 the source, 2 the destination.
CREATE TABLE flow_minutes (
	at BIGINT NOT NULL,
	edge BIGINT NOT NULL,
	side SMALLINT NOT NULL,
	first BIGINT NOT NULL,
	last BIGINT NOT NULL,
	opened BIGINT NOT NULL,
	established BIGINT NOT NULL,
	refused BIGINT NOT NULL,
	reset BIGINT NOT NULL,
	denied BIGINT NOT NULL,
	resent BIGINT NOT NULL,
	bytes_out BIGINT NOT NULL,
	bytes_in BIGINT NOT NULL,
	packets_out BIGINT NOT NULL,
	packets_in BIGINT NOT NULL,
	rtt BIGINT NOT NULL,
	rtts BIGINT NOT NULL,
	PRIMARY KEY (at, edge, side)
);
CREATE INDEX flow_minutes_edge ON flow_minutes (edge, at);
CREATE TABLE flow_hours (
	at BIGINT NOT NULL,
	edge BIGINT NOT NULL,
	side SMALLINT NOT NULL,
	first BIGINT NOT NULL,
	last BIGINT NOT NULL,
	opened BIGINT NOT NULL,
	established BIGINT NOT NULL,
	refused BIGINT NOT NULL,
	reset BIGINT NOT NULL,
	denied BIGINT NOT NULL,
	resent BIGINT NOT NULL,
	bytes_out BIGINT NOT NULL,
	bytes_in BIGINT NOT NULL,
	packets_out BIGINT NOT NULL,
	packets_in BIGINT NOT NULL,
	rtt BIGINT NOT NULL,
	rtts BIGINT NOT NULL,
	PRIMARY KEY (at, edge, side)
);
CREATE INDEX flow_hours_edge ON flow_hours (edge, at);

-- The last report of each node that was taken: the same one does not count twice.
CREATE TABLE flow_reports (
	node TEXT PRIMARY KEY,
	boot TEXT NOT NULL,
	sequence BIGINT NOT NULL,
	lost BIGINT NOT NULL -- packets whose edge found no room, since the node started
);

-- +goose Down
DROP TABLE flow_reports;
DROP TABLE flow_hours;
DROP TABLE flow_minutes;
DROP TABLE flow_edges;
