package detect

import "strings"

// sqlGate are words without which SQL does nothing that a quote or an operator does not show.
var sqlGate = []string{
	"select", "union", " or ", " and ", "insert", "update", "delete", "drop", "sleep", "benchmark", "waitfor", "having", "order by", "group by", "exec", "declare",
	"--", "/*", "*/", "||", "&&", "char", "concat", "information_schema", "xp_", "sysobjects", "@@", "like", "rlike", "regexp", "outfile", "dumpfile", "load_file",
	"procedure", "null", "true", "shutdown", "limit", "where", "between", " in ", " is ", "create", "alter", "truncate", "merge", "pragma", "attach", "xor",
	"/**/or", "or/**/", "%0aor", "or(", "and(", "not(", "if(", "case when", "print", "grant", "replace(", "\tor", "or\t", "\nor", "or\n", "handler", "or true", "div ",
}

// sql reads the value in the three places where an application can put it: outside a string, and
// inside one of either quote. Only where what follows is SQL does a quote say anything.
func (f *finder) sql() {
	if !f.has(quote|double|equals|semi|paren|hash|star|angle|mark|pipe|ampersand|backtick) && !f.words.has(sqlBit) {
		return
	}
	s := f.Lower
	var buf [64]token
	f.sqlIn(sqlTokens(buf[:0], s, 0), 0)
	for _, q := range []byte{'\'', '"'} {
		f.sqlQuoted(s, q, buf[:0])
	}
}

// maxBreaks bounds the quotes that are tried as the end of the application's string.
const maxBreaks = 12

// sqlQuoted tries each of the first quotes as the one that ends the string.
func (f *finder) sqlQuoted(s string, q byte, buf []token) {
	at := 0
	for n := 0; n < maxBreaks; n++ {
		i := strings.IndexByte(s[at:], q)
		if i < 0 {
			return
		}
		at += i
		if at+1 < len(s) && s[at+1] == q && at > 0 && s[at-1] == q { // of a row of quotes the last one counts
			at++
			n--
			continue
		}
		if !closesCode(s, at, q) {
			f.sqlIn(sqlTokens(append(buf, token{kString, ""}), s[at+1:], 0), q)
		}
		at++
	}
}

// closesCode says whether the quote at a place ends a string that begins after an operator: name = "x" and …
// is a query that a person writes, whose quotes break out of nothing.
func closesCode(s string, at int, q byte) bool {
	open := strings.LastIndexByte(s[:at], q)
	if open < 0 {
		return false
	}
	before := strings.TrimRight(s[:open], " ")
	return before != "" && strings.IndexByte("=:([{,>", before[len(before)-1]) >= 0 && strings.Count(s[:at], string(q))%2 == 1
}

// sqlIn applies the rules to tokens of one reading; q is the quote of the string they begin in.
func (f *finder) sqlIn(t []token, q byte) {
	if len(t) == 0 {
		return
	}
	p := &sqlParser{t: t, quoted: q != 0}
	if q != 0 && !p.follows(1) {
		return // a name or a number right after a string: prose
	}
	f.sqlUnion(p)
	f.sqlLogic(p)
	f.sqlTail(p)
	f.sqlStacked(p)
	f.sqlStatement(p)
	f.sqlCalls(p)
	f.sqlOrder(p)
}

type sqlParser struct {
	t      []token
	quoted bool
}

func (p *sqlParser) kind(i int) kind {
	if i < 0 || i >= len(p.t) {
		return 0
	}
	return p.t[i].kind
}

func (p *sqlParser) text(i int) string {
	if i < 0 || i >= len(p.t) {
		return ""
	}
	return p.t[i].text
}

// follows says whether SQL can go on after a value with token i.
func (p *sqlParser) follows(i int) bool {
	for p.kind(i) == kClose {
		i++
	}
	switch p.kind(i) {
	case kCompare, kMath, kLogic, kUnion, kEnd, kComment, kComma:
		return true
	case kClause:
		switch p.text(i) {
		case "having", "order", "group", "limit", "procedure", "into", "where", "from", "for", "offset", "as":
			return true
		}
	}
	return false
}

// operand is the end of an operand at i: a constant, a name, a call, a parenthesis; i where none is.
func (p *sqlParser) operand(i int) int {
	for p.unary(i) || p.text(i) == "not" || p.text(i) == "all" || p.text(i) == "distinct" || p.text(i) == "binary" {
		i++
	}
	switch p.kind(i) {
	case kNumber, kString, kVariable, kLiteral:
		return i + 1
	case kName:
		if p.kind(i+1) == kString { // date '…', binary '…'
			return i + 2
		}
		return i + 1
	case kFunction:
		return p.closing(i + 1)
	case kOpen:
		return p.closing(i)
	case kVerb:
		if w := p.text(i); w == "case" || w == "select" {
			return min(i+4, len(p.t))
		}
	}
	return i
}

// unary says whether token i is a sign before a value.
func (p *sqlParser) unary(i int) bool {
	if p.kind(i) != kMath {
		return false
	}
	switch p.text(i) {
	case "+", "-", "~", "!":
		return true
	}
	return false
}

// closing is behind the parenthesis that closes the one at i, or the end of the text.
func (p *sqlParser) closing(i int) int {
	for level := 0; i < len(p.t); i++ {
		switch p.kind(i) {
		case kOpen:
			level++
		case kClose:
			if level--; level == 0 {
				return i + 1
			}
		}
	}
	return i
}

func (p *sqlParser) constant(i int) bool {
	for p.kind(i) == kMath && p.text(i) != "*" {
		i++
	}
	switch p.kind(i) {
	case kNumber, kString, kLiteral, kVariable, kFunction, kOpen:
		return true
	}
	return false
}

// sqlUnion: UNION [ALL] SELECT with a list behind it, as no sentence about a union has.
func (f *finder) sqlUnion(p *sqlParser) {
	for i := range p.t {
		if p.kind(i) != kUnion {
			continue
		}
		k := i + 1
		for p.text(k) == "all" || p.text(k) == "distinct" || p.kind(k) == kOpen {
			k++
		}
		if p.text(k) != "select" {
			continue
		}
		switch {
		case p.selectList(k + 1):
			f.hit(SQL, "sql-union-select", 96)
		case k+1 >= len(p.t):
			f.hit(SQL, "sql-union-select", 80)
		default:
			f.hit(SQL, "sql-union-words", 45)
		}
	}
}

// selectList says whether what is at i begins a list of columns and no sentence.
func (p *sqlParser) selectList(i int) bool {
	for p.text(i) == "all" || p.text(i) == "distinct" || p.text(i) == "top" || p.kind(i) == kOpen {
		i++
	}
	switch p.kind(i) {
	case kNumber, kString, kVariable, kLiteral, kFunction, kVerb, kComment:
		return true
	case kMath, kForeign:
		return p.text(i) == "*" || p.text(i) == "-" || p.text(i) == "+" || p.text(i) == "~" || p.text(i) == "{"
	case kName:
		next := p.kind(i + 1)
		return next == kComma && p.kind(i+2) != 0 || p.text(i+1) == "from" && p.kind(i+3) != kName || next == kMath || strings.HasPrefix(p.text(i), "`")
	}
	return false
}

// sqlLogic: … or 1=1, … and 'a' like 'a', … or sleep(1).
func (f *finder) sqlLogic(p *sqlParser) {
	for i := range p.t {
		if p.kind(i) != kLogic && p.text(i) != "||" || i == 0 && p.text(i) == "not" || !p.valueBefore(i) && i > 0 {
			continue
		}
		k := i + 1
		for p.kind(k) == kLogic || p.text(k) == "!" {
			k++
		}
		f.sqlCondition(p, i, k)
	}
}

// valueBefore says whether the tokens before i end with a value.
func (p *sqlParser) valueBefore(i int) bool {
	switch p.kind(i - 1) {
	case kNumber, kString, kVariable, kLiteral, kClose, kName:
		return true
	}
	return false
}

func (f *finder) sqlCondition(p *sqlParser, at, i int) {
	breaks := p.quoted && at <= 2 || !p.quoted && (at == 0 || at <= 3 && (p.kind(at-1) == kNumber || p.kind(at-1) == kClose || p.kind(at-1) == kString && at <= 2))
	end := p.operand(i)
	if end == i {
		return
	}
	if p.kind(end) != kCompare {
		f.sqlBare(p, i, end, breaks)
		return
	}
	right := end + 1
	for p.kind(right) == kCompare || p.text(right) == "not" {
		right++
	}
	stop := p.operand(right)
	fixed := p.constant(i) && (stop == right && right >= len(p.t) || p.constant(right))
	switch {
	case stop == right && right < len(p.t):
	case fixed && breaks:
		f.hit(SQL, "sql-tautology", 92)
	case fixed && p.kind(i) == kNumber && p.kind(right) == kNumber && p.kind(at-1) != kName:
		f.hit(SQL, "sql-tautology", 80)
	case fixed:
		f.hit(SQL, "sql-constant-condition", 50)
	case breaks && p.quoted:
		f.hit(SQL, "sql-condition", 75)
	case breaks:
		f.hit(SQL, "sql-condition", 50)
	}
}

// sqlBare: a condition that is one value: ' or 1--, 1 or true, ' and sleep(5).
func (f *finder) sqlBare(p *sqlParser, i, end int, breaks bool) {
	last := p.kind(end)
	ends := last == 0 || last == kComment || last == kEnd || last == kClose
	switch {
	case !breaks || !ends:
	case p.quoted && last != 0 && p.kind(i) != kName:
		f.hit(SQL, "sql-condition", 85)
	case p.quoted && p.constant(i):
		f.hit(SQL, "sql-condition", 75)
	case p.quoted:
		f.hit(SQL, "sql-condition", 35)
	case last == kComment && p.constant(i):
		f.hit(SQL, "sql-condition", 75)
	case p.kind(i) == kFunction, p.kind(i) == kOpen && p.text(i+1) == "select", p.kind(i) == kLiteral:
		f.hit(SQL, "sql-condition", 55)
	default:
		f.hit(SQL, "sql-value-or-value", 15)
	}
}

// sqlTail: the string ends and the rest of the application's statement is cut off; or two strings
// are joined, as in '||' and '+'.
func (f *finder) sqlTail(p *sqlParser) {
	i := 1
	if !p.quoted {
		i = 0
		if p.kind(0) == kNumber || p.kind(0) == kClose {
			i = 1
		}
		if p.kind(i) == kComment && i == 1 && isCut(p.text(1)) {
			f.hit(SQL, "sql-comment-tail", 60)
		}
		return
	}
	for p.kind(i) == kClose {
		i++
	}
	switch {
	case p.kind(i) == kComment && isCut(p.text(i)):
		f.hit(SQL, "sql-comment-tail", 78)
	case p.kind(i) == kComment:
		f.hit(SQL, "sql-comment-words", 25)
	case p.kind(i) == kEnd && (p.kind(i+1) == kComment || i > 1 && p.kind(i+1) == 0):
		f.hit(SQL, "sql-comment-tail", 78)
	case p.kind(i) == kMath && (p.kind(i+1) == kString || p.kind(i+1) == kNumber || p.kind(i+1) == kFunction || p.kind(i+1) == kOpen):
		f.sqlJoin(p, i)
	case p.kind(i) == kCompare && p.kind(i+1) == kString && (p.text(i+1) == "'" || p.text(i+1) == `"` || len(p.text(i+1)) <= 2) && i+2 >= len(p.t):
		f.hit(SQL, "sql-string-compare", 60)
	}
}

func (f *finder) sqlJoin(p *sqlParser, i int) {
	end := p.operand(i + 1)
	switch {
	case p.kind(i+1) == kFunction || p.kind(i+1) == kOpen && p.text(i+2) == "select":
		f.hit(SQL, "sql-join-call", 75)
	case end >= len(p.t) || p.kind(end) == kMath || p.kind(end) == kComment:
		f.hit(SQL, "sql-string-join", 50)
	}
}

// isCut says whether a comment holds nothing that a person would write.
func isCut(comment string) bool {
	rest := strings.TrimLeft(comment, "-#/* +")
	return len(rest) <= 3 || !strings.ContainsAny(rest, " ") && len(rest) <= 8
}

// sqlStacked: ; and a second statement.
func (f *finder) sqlStacked(p *sqlParser) {
	for i := range p.t {
		if p.kind(i) == kEnd && p.statement(i+1) {
			f.hit(SQL, "sql-stacked", f.stackedScore())
		}
	}
}

// stackedScore: a long text of lines may be a program that somebody asks about.
func (f *finder) stackedScore() int {
	if len(f.Raw) > 400 && f.has(lineEnd) {
		return 80
	}
	return 92
}

// statement says whether a well-formed statement begins at i.
func (p *sqlParser) statement(i int) bool {
	next := p.text(i + 1)
	switch p.text(i) {
	case "select":
		return p.selectList(i + 1)
	case "insert":
		return next == "into" && (p.kind(i+3) == kOpen || p.text(i+3) == "values" || p.text(i+3) == "select" || p.kind(i+2) == kFunction)
	case "delete":
		return next == "from" && (p.text(i+3) == "where" || p.kind(i+3) == 0 || p.kind(i+3) == kComment || p.kind(i+3) == kEnd)
	case "update":
		return p.text(i+2) == "set" && p.kind(i+4) == kCompare
	case "drop", "create", "alter", "truncate":
		return sqlObjects[next] && p.kind(i+2) != 0 || p.text(i) == "truncate" && p.kind(i+2) == 0 && p.kind(i+1) == kName
	case "exec", "execute":
		return p.kind(i+1) == kFunction || p.kind(i+1) == kOpen || strings.HasPrefix(next, "xp_") || strings.HasPrefix(next, "sp_") || strings.HasPrefix(next, "master") || p.kind(i+1) == kVariable
	case "waitfor":
		return (next == "delay" || next == "time") && p.kind(i+2) == kString
	case "declare":
		return p.kind(i+1) == kVariable
	case "shutdown":
		return p.kind(i+1) == kComment || p.text(i+1) == "with" || p.kind(i+1) == kEnd
	case "if":
		return p.kind(i+1) == kOpen || p.kind(i+1) == kNumber
	case "copy":
		return p.text(i+2) == "from" || p.text(i+2) == "to"
	case "attach", "pragma", "backup", "restore":
		return next == "database" || p.kind(i+2) == kCompare
	}
	return false
}

var sqlObjects = map[string]bool{"table": true, "database": true, "schema": true, "view": true, "procedure": true, "function": true, "user": true, "login": true, "index": true, "trigger": true, "or": true, "temporary": true, "role": true, "alias": true}

// sqlStatement: the value is a statement as a whole.
func (f *finder) sqlStatement(p *sqlParser) {
	if p.quoted || !p.statement(0) {
		if !p.quoted && p.kind(0) == kOpen && p.text(1) == "select" && p.selectList(2) {
			f.hit(SQL, "sql-subselect", 75)
		}
		f.sqlInner(p)
		return
	}
	score := 60
	for i := range p.t {
		if p.text(i) == "from" || p.text(i) == "table" || p.text(i) == "database" || p.text(i) == "into" {
			score = 75
		}
	}
	f.hit(SQL, "sql-statement", score)
}

// sqlInner: a statement in parentheses within another text.
func (f *finder) sqlInner(p *sqlParser) {
	for i := range p.t {
		if p.kind(i) == kOpen && p.text(i+1) == "select" && p.selectList(i+2) {
			f.hit(SQL, "sql-subselect", 70)
			return
		}
	}
}

// sqlCalls: functions and names that only probing and reading out use.
func (f *finder) sqlCalls(p *sqlParser) {
	for i, t := range p.t {
		switch t.kind {
		case kFunction:
			if score := sqlFunctions[t.text]; score > 0 {
				if p.kind(i+2) == kClose && score < 90 { // user(), version()
					score -= 20
				}
				f.hit(SQL, "sql-function", score)
			}
		case kName, kVariable:
			if score := sqlName(t.text); score > 0 {
				f.hit(SQL, "sql-name", score)
			}
		case kClause:
			if (t.text == "outfile" || t.text == "dumpfile") && p.kind(i+1) == kString {
				f.hit(SQL, "sql-outfile", 92)
			}
		case kVerb:
			if t.text == "waitfor" && p.statement(i) {
				f.hit(SQL, "sql-delay", 95)
			}
			if t.text == "case" && p.text(i+1) == "when" {
				f.hit(SQL, "sql-case", 60)
			}
		}
	}
}

var sqlFunctions = map[string]int{
	"sleep": 70, "benchmark": 75, "pg_sleep": 95, "extractvalue": 85, "updatexml": 85, "load_file": 90, "xp_cmdshell": 96, "randomblob": 80, "dbms_pipe.receive_message": 96,
	"dbms_lock.sleep": 96, "utl_inaddr.get_host_address": 96, "utl_inaddr.get_host_name": 96, "utl_http.request": 96, "ctxsys.drithsx.sn": 96, "user_lock.sleep": 96, "httpuritype": 80, "dbms_xmlgen.getxml": 90,
	"group_concat": 80, "concat_ws": 65, "char": 45, "chr": 45, "ascii": 55, "substr": 40, "substring": 40, "mid": 40, "ord": 40, "hex": 40, "unhex": 55, "database": 55, "user": 45, "current_user": 60, "session_user": 60, "system_user": 60,
	"version": 40, "sqlite_version": 80, "load_extension": 90, "fn_sqlvarbasetostr": 90, "db_name": 75, "host_name": 65, "is_srvrolemember": 85, "has_dbaccess": 80, "row_count": 60, "elt": 60, "make_set": 75, "bin": 30, "ifnull": 45, "isnull": 40, "nvl": 50, "iif": 40,
	"if": 30, "concat": 45, "gtid_subset": 85, "json_keys": 40, "st_latfromgeohash": 85, "polygon": 40, "geometrycollection": 60, "multipoint": 60, "linestring": 40, "exp": 30, "floor": 30, "rand": 35, "name_const": 85, "pg_read_file": 95, "lo_import": 90, "current_database": 75, "query_to_xml": 90, "database_to_xml": 90, "openrowset": 90, "opendatasource": 90, "xmltype": 85, "cast": 40, "convert": 35, "generate_series": 55, "coalesce": 30, "current_setting": 60, "dblink_connect": 90, "dblink": 75, "sys_context": 80, "to_char": 35, "waitfor": 60, "exists": 40, "strcmp": 50, "length": 30, "len": 30, "reverse": 30, "lower": 25, "upper": 25, "quote_literal": 60, "array_to_string": 50,
}

func sqlName(s string) int {
	switch {
	case strings.HasPrefix(s, "@@"):
		return 80
	case strings.HasPrefix(s, "information_schema."), strings.HasPrefix(s, "sys.") && len(s) > 6, strings.HasPrefix(s, "mysql.user"), strings.HasPrefix(s, "master.") && strings.Contains(s, ".."), strings.HasPrefix(s, "pg_catalog."):
		return 80
	}
	return sqlNames[s]
}

var sqlNames = map[string]int{
	"information_schema": 45, "sysobjects": 75, "syscolumns": 75, "sysusers": 70, "xp_cmdshell": 85, "xp_regread": 90, "xp_dirtree": 90, "sp_executesql": 80, "sp_password": 85, "sp_oacreate": 90, "sp_makewebtask": 90, "xp_": 50, "sqlite_master": 75, "msysaccessobjects": 90, "all_tables": 65, "user_tables": 60, "all_tab_columns": 75, "pg_shadow": 80, "pg_user": 60, "pg_stat_activity": 50, "v$version": 80, "dba_users": 75, "sysibm.sysdummy1": 80, "syscat.tables": 75, "rownum": 45, "current_user": 40, "session_user": 50, "master..xp_cmdshell": 96, "table_name": 40, "column_name": 40, "table_schema": 55, "performance_schema": 50, "rdb$database": 85, "master..sysdatabases": 90, "utl_http.request": 80, "xp_availablemedia": 90, "xp_enumdsn": 90, "xp_loginconfig": 90, "xp_makecab": 90, "xp_ntsec_enumdomains": 90, "xp_terminate_process": 90, "sysdatabases": 80, "db_name": 50, "0x3a": 50,
}

// sqlOrder: the number of columns is counted: ' order by 3--, 1 having 1=1.
func (f *finder) sqlOrder(p *sqlParser) {
	for i := 1; i < len(p.t) && i < 8; i++ {
		if p.kind(i) != kClause || !p.valueBefore(i) || p.kind(i-1) == kName {
			continue
		}
		w := p.text(i)
		by := (w == "order" || w == "group") && p.text(i+1) == "by"
		switch {
		case by && (p.kind(i+2) == kNumber || p.kind(i+2) == kComment || p.kind(i+2) == kOpen || p.kind(i+2) == kFunction):
			f.hit(SQL, "sql-order-by", 85)
		case by && p.quoted:
			f.hit(SQL, "sql-order-by", 70)
		case w == "having" && p.constant(i+1):
			f.hit(SQL, "sql-having", 85)
		case w == "limit" && p.kind(i+1) == kNumber && p.kind(i+2) != 0:
			f.hit(SQL, "sql-limit", 60)
		case w == "procedure" && p.kind(i+1) == kFunction:
			f.hit(SQL, "sql-procedure", 90)
		case w == "into" && (p.text(i+1) == "outfile" || p.text(i+1) == "dumpfile"):
			f.hit(SQL, "sql-outfile", 92)
		}
	}
}
