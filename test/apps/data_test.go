//go:build integration

package apps

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// resp speaks redis' protocol over one connection.
type resp struct {
	net.Conn
	in *bufio.Reader
}

func dialRedis(ctx context.Context, b *box) (*resp, error) {
	c, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", b.ip+":6379")
	if err != nil {
		return nil, err
	}
	return &resp{c, bufio.NewReader(c)}, nil
}

// ask sends one command and returns its answer; lists are joined by blanks.
func (r *resp) ask(words ...string) (string, error) {
	_ = r.SetDeadline(time.Now().Add(20 * time.Second))
	var out strings.Builder
	fmt.Fprintf(&out, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&out, "$%d\r\n%s\r\n", len(w), w)
	}
	if _, err := io.WriteString(r, out.String()); err != nil {
		return "", err
	}
	return r.answer()
}

func (r *resp) answer() (string, error) {
	line, err := r.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSpace(line)
	n, _ := strconv.Atoi(line[1:])
	switch {
	case line[0] == '-':
		return "", fmt.Errorf("redis says %s", line)
	case line[0] == '$' && n >= 0:
		text := make([]byte, n+2)
		_, err := io.ReadFull(r.in, text)
		return string(text[:n]), err
	case line[0] == '*':
		var list []string
		for range n {
			one, err := r.answer()
			if err != nil {
				return "", err
			}
			list = append(list, one)
		}
		return strings.Join(list, " "), nil
	}
	return line[1:], nil
}

func redisServes(ctx context.Context, b *box) error {
	r, err := dialRedis(ctx, b)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = r.ask("PING")
	return err
}

func redisScript(ctx context.Context, v *visitor, round int) {
	r, err := dialRedis(ctx, v.box)
	if err != nil {
		v.count(1, "connect", err)
		return
	}
	defer r.Close()
	key := func(kind string) string {
		return fmt.Sprintf("%s:%s:%d:%d", pick(v, "shop", "blog"), kind, v.number, round)
	}
	value := strings.Repeat("v", pick(v, 100, 30000)+round)
	commands := [][]string{
		{"SET", key("text"), value, "EX", "60"},
		{"GET", key("text")},
		{"INCRBY", key("n"), "7"},
		{"APPEND", key("text"), "more"},
		{"HSET", key("hash"), "a", "1", "b", value},
		{"HGETALL", key("hash")},
		{"RPUSH", key("list"), "3", "1", "2"},
		{"SORT", key("list"), "DESC"},
		{"SADD", key("set"), "x", "y"},
		{"SMEMBERS", key("set")},
		{"ZADD", key("rank"), "1", "one", "2", "two"},
		{"ZRANGE", key("rank"), "0", "-1"},
		{"XADD", key("stream"), "*", "field", value},
		{"XRANGE", key("stream"), "-", "+"},
		{"PFADD", key("log"), "a"},
		{"SETBIT", key("bits"), "1000", "1"},
		{"MULTI"},
		{"INCR", key("n")},
		{"EXPIRE", key("n"), "30"},
		{"EXEC"},
		{"EVAL", "return redis.call('GET', KEYS[1])", "1", key("n")},
		{"SCAN", "0", "MATCH", "*:n:*"},
		{"PUBLISH", key("channel"), "hi"},
		{"INFO"},
		{"DBSIZE"},
		{"CLIENT", "LIST"},
		{"SLOWLOG", "GET"},
		{"UNLINK", key("hash"), key("stream")},
	}
	for _, c := range commands {
		_, err := r.ask(c...)
		v.count(1, c[0], err)
	}
	if v.number == 0 && round%20 == 0 {
		redisPersist(v, r, round)
	}
	if v.number == 0 && round%40 == 0 {
		v.execute(ctx, 1, "", "PONG", "redis-cli", "ping")
	}
}

// redisPersist writes to disk in each way that redis has; a save that is running is no fault.
func redisPersist(v *visitor, r *resp, round int) {
	for _, c := range [][]string{{"CONFIG", "SET", "appendonly", pick2(round%40 == 0, "yes", "no")}, {"BGSAVE", "SCHEDULE"}, {"BGREWRITEAOF"}, {"FLUSHDB", "ASYNC"}} {
		_, err := r.ask(c...)
		if err != nil && strings.Contains(err.Error(), "in progress") {
			err = nil
		}
		v.count(1, c[0], err)
		time.Sleep(100 * time.Millisecond)
	}
}

func postgresServes(ctx context.Context, b *box) error {
	_, err := b.exec(ctx, "select 1", "psql", "-Atq")
	return err
}

// postgresScript has a table of its own for each visitor: made, filled, searched, sorted on disk, swept and dropped.
func postgresScript(ctx context.Context, v *visitor, round int) {
	table := v.name(round)
	rows := pick(v, 3000, 8000) + 10*round
	script := fmt.Sprintf(`
\set ON_ERROR_STOP on
create table %[1]s (id serial primary key, name text, amount numeric, at timestamptz default now(), data jsonb);
insert into %[1]s (name, amount, data) select md5(i::text), i, jsonb_build_object('i', i) from generate_series(1, %[2]d) i;
create index on %[1]s (name);
update %[1]s set amount = amount * 2 where id %% 3 = 0;
delete from %[1]s where id %% 7 = 0;
begin; create temp table part on commit drop as select * from %[1]s where id < 500; select count(*) from part; commit;
set work_mem = '64kB'; select sum(amount) from (select * from %[1]s order by data::text, name desc) sorted; reset work_mem;
set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; select count(*), avg(amount) from %[1]s where name like '%%a%%';
select name, rank() over (order by amount) from %[1]s limit 5;
declare c cursor with hold for select id from %[1]s; fetch 20 from c; close c;
prepare q(int) as select name from %[1]s where id = $1; execute q(2); deallocate q;
begin; savepoint s; insert into %[1]s (id) values (-1); rollback to s; commit;
listen news; notify news, 'hello';
select lo_unlink(lo_from_bytea(0, repeat('x', %[2]d)::bytea));
copy (select id, name from %[1]s limit 100) to stdout;
create function twice_%[1]s(x int) returns int language plpgsql as $$ begin return 2 * x; end $$; select twice_%[1]s(21); drop function twice_%[1]s;
analyze %[1]s; vacuum %[1]s;
create view seen as select 1; drop view seen;
truncate %[1]s; drop table %[1]s;
select 'finished %[1]s';
`, table, rows)
	if v.number != 0 {
		script = strings.ReplaceAll(script, "create view seen as select 1; drop view seen;", "")
	}
	v.execute(ctx, 34, script, "finished "+table, "psql", "-Atq")
	if v.number == 0 && round%6 == 0 {
		v.execute(ctx, 4, "create table f(x int); vacuum full f; checkpoint; reindex table f; drop table f;", "", "psql", "-Atq", "-v", "ON_ERROR_STOP=1")
		v.pgbench(ctx, round)
	}
}

// pgbench makes many small transactions over several connections.
func (v *visitor) pgbench(ctx context.Context, round int) {
	if round == 0 {
		v.execute(ctx, 1, "", "", "/usr/lib/postgresql/15/bin/pgbench", "-i", "-q", "-s", "1")
	}
	clients, each := pick(v, 3, 6), pick(v, 60, 110)
	want := fmt.Sprintf("number of transactions actually processed: %d/%d", clients*each, clients*each)
	v.execute(ctx, clients*each, "", want, "/usr/lib/postgresql/15/bin/pgbench", "-n", "-c", strconv.Itoa(clients), "-t", strconv.Itoa(each))
}

func mariadbServes(ctx context.Context, b *box) error {
	_, err := b.exec(ctx, "select 1", "mariadb")
	return err
}

func mariadbScript(ctx context.Context, v *visitor, round int) {
	base := v.name(round)
	rows := pick(v, 2000, 5000) + 10*round
	script := fmt.Sprintf(`
create database %[1]s; use %[1]s;
create table items (id int auto_increment primary key, name varchar(64), amount decimal(12,2), note text, key (name)) engine=innodb;
insert into items (name, amount, note) select md5(seq), seq, repeat('n', 50) from seq_1_to_%[2]d;
update items set amount = amount * 2 where id %% 3 = 0;
delete from items where id %% 7 = 0;
start transaction; insert into items (name) values ('gone'); rollback;
start transaction; insert into items (name) values ('kept'); savepoint s; commit;
create temporary table part as select * from items where id < 500; select count(*) from part; drop temporary table part;
create table old (id int, name varchar(64)) engine=aria; insert into old select id, name from items; select count(*) from old; drop table old;
create table older (id int, name varchar(64)) engine=myisam; insert into older select id, name from items; repair table older; drop table older;
set sort_buffer_size = 32768; select sum(length(name)) from (select name, note from items order by note, name desc limit 100000) sorted;
set tmp_memory_table_size = 0; select name, count(*) from items group by name, note order by 2 desc limit 3; set tmp_memory_table_size = default;
alter table items add column more int default 1; create index amounts on items (amount); optimize table items; analyze table items; check table items;
create view few as select * from items limit 3; select * from few; drop view few;
create procedure twice(x int) select 2 * x; call twice(21); drop procedure twice;
prepare q from 'select name from items where id = ?'; set @id = 2; execute q using @id; deallocate prepare q;
select * from items into outfile '/tmp/%[1]s.txt'; truncate items; load data infile '/tmp/%[1]s.txt' into table items; select count(*) from items;
flush tables; show processlist; show engine innodb status; show table status;
drop database %[1]s;
select 'finished %[1]s';
`, base, rows)
	v.execute(ctx, 50, script, "finished "+base, "mariadb", "-N")
}
