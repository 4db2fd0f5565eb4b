-- What endpoints and databases were asked, by minute, for a day.

-- +goose Up
CREATE TABLE flow_requests (
	at BIGINT NOT NULL,
	edge BIGINT NOT NULL,
	side SMALLINT NOT NULL,
	shape TEXT NOT NULL,
	answered BIGINT NOT NULL,
	rejected BIGINT NOT NULL,
	failed BIGINT NOT NULL,
	took_sum BIGINT NOT NULL, -- microseconds
	took_max BIGINT NOT NULL,
	PRIMARY KEY (at, edge, side, shape)
);
CREATE INDEX flow_requests_edge ON flow_requests (edge, at);

-- +goose Down
DROP TABLE flow_requests;
