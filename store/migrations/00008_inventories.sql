-- What each cluster said last of its namespaces, ports and services.

-- +goose Up
CREATE TABLE inventories (
	cluster TEXT PRIMARY KEY,
	said TEXT NOT NULL,
	at BIGINT NOT NULL
);

-- +goose Down
DROP TABLE inventories;
