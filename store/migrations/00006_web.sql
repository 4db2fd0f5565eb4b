-- What is done with workloads' requests.

-- +goose Up
CREATE TABLE web_settings (
	workload TEXT PRIMARY KEY,
	setting TEXT NOT NULL -- JSON
);

-- +goose Down
DROP TABLE web_settings;
