-- Network policies, and what nodes say of workloads.

-- +goose Up
ALTER TABLE flow_minutes ADD COLUMN would_deny BIGINT NOT NULL DEFAULT 0;
ALTER TABLE flow_hours ADD COLUMN would_deny BIGINT NOT NULL DEFAULT 0;

CREATE TABLE segments (
	kind TEXT NOT NULL,
	namespace TEXT NOT NULL, -- empty where the kind has none
	name TEXT NOT NULL,
	state TEXT NOT NULL, -- kept, staged, enforced
	document TEXT NOT NULL,
	by_whom TEXT NOT NULL,
	at BIGINT NOT NULL,
	PRIMARY KEY (kind, namespace, name)
);
CREATE TABLE quarantines (
	workload TEXT PRIMARY KEY,
	by_whom TEXT NOT NULL,
	at BIGINT NOT NULL
);
-- Labels outlive the workload: history is grouped and judged by them.
CREATE TABLE flow_workloads (
	cluster TEXT NOT NULL,
	workload TEXT NOT NULL,
	namespace TEXT NOT NULL,
	labels TEXT NOT NULL, -- JSON
	addresses TEXT NOT NULL, -- JSON, those that were seen last
	seen BIGINT NOT NULL,
	PRIMARY KEY (cluster, workload)
);
-- Addresses that nodes translate, and to whom they did.
CREATE TABLE flow_services (
	cluster TEXT NOT NULL,
	protocol INTEGER NOT NULL,
	address TEXT NOT NULL,
	port INTEGER NOT NULL,
	backends TEXT NOT NULL, -- JSON
	seen BIGINT NOT NULL,
	PRIMARY KEY (cluster, protocol, address, port)
);
-- Where a node's workloads are, as it said last: a control plane that starts knows it at once.
CREATE TABLE flow_nodes (
	node TEXT PRIMARY KEY,
	cluster TEXT NOT NULL,
	report TEXT NOT NULL, -- JSON
	seen BIGINT NOT NULL
);

-- +goose Down
DROP TABLE flow_nodes;
DROP TABLE flow_services;
DROP TABLE flow_workloads;
DROP TABLE quarantines;
DROP TABLE segments;
ALTER TABLE flow_hours DROP COLUMN would_deny;
ALTER TABLE flow_minutes DROP COLUMN would_deny;
