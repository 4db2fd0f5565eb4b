package detect

import (
	"regexp"
	"strings"
	"sync"
)

// pattern is one rule that needs no grammar of its own. A new one is one line: the words that must be
// there (any of them, lower case) keep it from costing anything elsewhere.
type pattern struct {
	class Class
	rule  string
	score int
	gate  []string
	re    func() *regexp.Regexp // on the value in lower case; nil: the words are enough
	where []Where               // nil: everywhere
}

// re compiles when it is first asked: most programs that link this look at no request.
func re(s string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(s) })
}

var heads = []Where{Agent, Header}

var patterns = []pattern{
	// a web shell in an upload: code that takes what it runs from the request
	{Upload, "web-shell", 92, []string{"<?php", "<?=", "<%", "runat="}, re(`<\?(php|=).{0,400}(\$_(get|post|request|cookie|files|server)|eval\s*\(|base64_decode|system\s*\(|passthru|shell_exec|phpinfo|assert\s*\(|popen)|<%.{0,400}(request\.getparameter|runtime\.getruntime|eval\s*\(?\s*request|wscript\.shell|processbuilder|execute\s*\(?\s*request)`), []Where{Contents}},

	// names that are no attack by themselves
	{Known, "known-java", 1, []string{"java.", "processbuilder", "transformer", "instantiatefactory", "serializationfactory", "closure", "unmarshaller", "javax.", "com.sun.", "org.apache.", "org.omg.", "opensymphony"}, re(`\bjavax?\.(io|lang|util|net|runtime|beans|script|naming|management)|org\.omg\.|com\.sun\.|opensymphony|org\.apache\.|processbuilder|(clone|invoker|instantiate|chained|constant|instantiat\w*)transformer|instantiatefactory|serializationfactory|(while|for|if|chained|transformer)closure`), nil},
	{Known, "known-sql", 1, []string{"mysql.", "1.e", "4294967296", "northwind", "msdb", "schema_name", "msysaccess", "pg_catalog", "tempdb", "information_schema", "sqlite_", "2.2250738585072", "pg_sleep", "execute immediate", "sysdatabases", "group by", "procedure ", "create function", "create procedure", "autonomous_transaction", "div (", "div(", "soundex(", "$text", "$slice", "like binary", "xp_", "sp_"}, nil, nil},
	{Known, "known-host", 1, []string{"docker.internal", "containers.internal", "-loopback", "localtest.me", "lvh.me", "svc.cluster.local", "default.svc", "localhost4", "localhost6", "localdomain", "nip.io", "xip.io"}, nil, nil},
	{Known, "known-command", 1, []string{"visudo", "ansible", "chef", "cscli", "aa-disable", "if ", "bin/", "bsdtar", "errorlevel", "~-", "~+", "() {", "()%20{", "crontab", "byobu", "tshark", "at.deny", "choom", "gtester", "ksshell", "jrunscript", "mawk", "puppet", "ssh-keyscan", "setfacl", "start-stop-daemon", "sysctl", "systemd-resolve", "terraform", "tasksh", "unlzma", "zathura", "yash", "arj ", "efax", "ispell", "posix", "strace", "wish ", "jjs", "aria2c", "axel ", "bpftrace", "cpan", "cpulimit", "dmsetup", "dosbox", "dvips", "ftp ", "gawk", "gcore", "genisoimage", "ginsh", "hping3", "iftop", "kubectl", "latexmk", "logsave", "lwp-", "mtr ", "multitime", "nasm", "neofetch", "octave", "openvpn", "pdflatex", "pkexec", "psftp", "rlwrap", "rpmquery", "rsync", "run-parts", "rview", "scanmem", "slsh", "socat", "ss ", "ssh ", "tclsh", "tftp", "torify", "unexpand", "unshare", "varnishncsa", "vigr", "whiptail", "wireshark", "xdotool", "xelatex", "xmodmap", "xpad", "zsoelim", "zypper"}, re(`^\W{0,4}(time\s+|bin/|/?usr/bin/|sudo\s+)?(visudo|ansible|bsdtar|chef|cscli|aa-\w+\b|if\s{2,}.*(errorlevel|cmd|goto|exist|defined)|crontab|byobu|tshark|choom|gtester|ksshell|jrunscript|mawk|puppet|ssh-key|setfacl|start-stop|sysctl|systemd-|terraform|tasksh|unlzma|zathura|yash|arj|efax|ispell|strace|wish|jjs|aria2c|axel|bpftrace|cpan|cpulimit|dmsetup|dosbox|gawk|kubectl|openvpn|pkexec|rsync|socat|ss|ssh|tclsh|tftp|unshare)|~[+-]\d*$|\(\)(\s|%20)\{|errorlevel`), nil},
	{Known, "known-script", 1, []string{"document.cookie", "__js_function", "atob(", "btoa(", "__proto__", "constructor][", "<d i a l", "x-moz", "window.name", "window.location", ".innerhtml", "$_", "__filename", "charcodeat", "[prototype]", "module.exports"}, nil, nil},
	{Known, "known-scheme", 1, []string{"http?", "https?", "ftp?", "ftps?", "=http"}, re(`^(https?|ftps?)\?`), nil},

	{XSS, "script-member", 72, []string{"document[", "window[", "self[", "top[", "parent[", "globalthis[", "document?.", "this["}, re(`\b(document|window|self|top|parent|this|globalthis)\s*((\?\.)?\[\s*['"/` + "`" + `]|\?\.\s*(cookie|domain|location|write))`), nil},

	// lookups
	{Lookup, "jndi", 98, []string{"jndi:"}, re(`jndi:\s*(ldaps?|rmi|dns|iiop|nis|nds|corba|https?|\$|\{)`), nil},
	{Lookup, "jndi-word", 85, []string{"${jndi", "{jndi"}, nil, nil},
	{Lookup, "lookup-nested", 92, []string{"${${", "${lower", "${upper", "${::", "${env:", "${sys:", "${date:", "${ctx:", "${java:", "${main:", "${base64:", "${script:", "${dns:", "${url:"}, re(`\$\{\s*(\$\{|(lower|upper|env|sys|date|ctx|java|main|base64|script|dns|url|k8s|spring|bundle|map|sd|const):|[^}]{0,20}:-|::-)`), nil},

	// shells
	{Command, "shellshock", 98, []string{"()"}, re(`\(\)\s*\{.{0,20}[;:].{0,40}\}\s*;`), nil},
	{Command, "shellshock-start", 85, []string{"() {", "(){"}, re(`^\s*\(\)\s*\{\s*[_:]`), nil},
	{Command, "reverse-shell", 96, []string{"/dev/tcp/", "/dev/udp/"}, nil, nil},
	{Command, "interactive-shell", 92, []string{"bash -i", "sh -i", "nc -e", "nc.traditional", "ncat -e", "sh -c", "bash -c", "/bin/sh", "/bin/bash"}, re(`(ba|z|k|c|)sh\s+-i\b|\bnc(at)?\b[^;|]{0,60}\s-[a-z]*[ec]\b|\b(ba|z|k|)sh\s+-c\b`), nil},
	{Command, "path-of-shell", 70, []string{"/bin/"}, re(`/bin/(ba|z|k|c|da|)sh\b|/bin/(cat|ls|id|ping|nc|wget|curl|uname|ps|rm|echo|chmod|which|whoami|telnet|perl|python)`), nil},
	{Command, "interpreter", 80, []string{"python", "perl ", "ruby ", "php ", "node ", "lua "}, re(`\b(python[23]?(\.\d+)?|perl|ruby|php|node|lua)\s+-[a-z]*[ecr]\s*['"\\(a-z]`), nil},
	{Command, "download-and-run", 90, []string{"wget", "curl"}, re(`\b(wget|curl)\b[^|;&]{0,200}[|;&]+\s*(sudo\s+)?(ba|z|)(sh|python|perl|php|chmod)`), nil},
	{Command, "shell-blank", 85, []string{"${ifs", "$ifs", "{ifs"}, nil, nil},
	{Command, "brace-command", 80, []string{"{cat,", "{ls,", "{wget,", "{curl,", "{echo,", "{nc,", "{ping,"}, nil, nil},
	{Command, "wildcard-path", 85, []string{"/?", "?/", "/*"}, re(`/[a-z]{0,3}\?[a-z?*\[\]]{0,6}/[a-z]{0,5}[?*\[][a-z?*\[\]]{0,12}`), nil},
	{Command, "shell-of-windows", 88, []string{"cmd.exe", "cmd /c", "cmd /k", "%comspec%", "powershell", "pwsh "}, re(`\bcmd(\.exe)?\s*"?\s*/[ckr]|%comspec%|powershell(\.exe)?["']?\s+-|pwsh\s+-|(powershell|cmd)\.exe`), nil},
	{Command, "powershell", 88, []string{"invoke-expression", "invoke-webrequest", "downloadstring", "downloadfile", "frombase64string", "new-object", "start-process", "iex(", "iex (", "invoke-command", "get-wmiobject", "-encodedcommand", "add-type", "invoke-mimikatz"}, nil, nil},
	{Command, "windows-variable", 60, []string{"%systemroot%", "%programfiles", "%windir%", "%userprofile%", "%appdata%"}, nil, nil},
	{Command, "tools-of-windows", 85, []string{"certutil", "bitsadmin", "mshta", "regsvr32", "rundll32", "wmic ", "schtasks"}, re(`certutil(\.exe)?\s+-|bitsadmin\s+/|mshta\s+(http|vbscript|javascript)|regsvr32\s+/|rundll32(\.exe)?\s|wmic\s+(process|os|/)|schtasks\s+/`), nil},
	{Command, "system-file-argument", 88, []string{"/etc/passwd", "/etc/shadow"}, re(`(cat|head|tail|more|less|nl|od|tac|type|grep|awk|sed|cut|base64|xxd|strings|[|;&$` + "`" + `<]).{0,40}/etc/(passwd|shadow)`), nil},

	// PHP
	{Code, "php-tag", 88, []string{"<?php", "<?=", "<? "}, re(`<\?(php\b|=)|<\?\s+(echo|system|eval|exec|print|passthru|\$)`), nil},
	{Code, "php-superglobal", 85, []string{"$_get", "$_post", "$_request", "$_server", "$_cookie", "$_session", "$_files", "$_env", "$globals", "$http_raw_post"}, re(`\$(_(get|post|request|server|cookie|session|files|env)|globals|http_raw_post_data)\b`), nil},
	{Code, "php-call", 82, []string{"system(", "passthru", "shell_exec", "exec(", "assert(", "base64_decode", "phpinfo", "popen", "proc_open", "file_get_contents", "file_put_contents", "call_user_func", "create_function", "array_map(", "usort(", "str_rot13", "gzinflate", "highlight_file", "show_source", "readfile(", "pcntl_", "ob_start", "fsockopen", "preg_replace", "var_dump(", "print_r(", "unserialize(", "include(", "require(", "move_uploaded_file", "error_reporting(", "scandir(", "putenv(", "ini_set(", "die(", "fopen", "chr(", "fileatime", "filectime", "filegroup", "fileinode", "filemtime", "fileowner", "fileperms", "filetype"}, re(`\b(system|passthru|shell_exec|exec|assert|base64_decode|phpinfo|popen|proc_open|file_get_contents|file_put_contents|call_user_func(_array)?|create_function|array_map|usort|str_rot13|gzinflate|highlight_file|show_source|readfile|pcntl_exec|ob_start|fsockopen|var_dump|print_r|unserialize|move_uploaded_file|error_reporting|scandir|putenv|ini_set|fopen|file(atime|ctime|group|inode|mtime|owner|perms|type))\s*(/\*.*\*/)?\s*\(\s*(\$|['"\w)])|chr\(\d+\)\s*\.\s*chr\(`), nil},
	{Code, "php-setting", 85, []string{"auto_prepend_file", "allow_url_include", "disable_functions", "safe_mode", "suhosin", "open_basedir", "cgi.force_redirect", "auto_append_file", "memory_limit", "display_errors", "enable_dl", "user_ini"}, re(`(auto_(pre|ap)pend_file|allow_url_include|disable_functions|safe_mode|suhosin\.[a-z.]+|open_basedir|cgi\.force_redirect|memory_limit|display_errors|enable_dl|user_ini\.\w+)\s*(=|%3d)`), nil},
	{Code, "php-variable-call", 70, []string{"$"}, re(`^\s*\$\w+\s*\(\s*['"$\w]+\s*\)\s*;?\s*$|\$\{?\w*\}?\s*\(\s*\$|\$\w+\s*=\s*['"\w]+\s*;\s*@?\$\w+\s*\(|\$\{\s*@?\w+\s*\(|\$a?\[?['"]?\w*['"]?\]?\s*=\s*['"]?(system|eval|assert)`), nil},
	{Code, "php-eval", 85, []string{"eval(", "eval (", "eval/*"}, re(`\beval\s*(/\*.*\*/)?\s*\(\s*(\$|base64|gz|str_|chr\(|['"]|atob|string\.|unescape|compile|location|name|window|document|alert|[a-z_.]+\()`), nil},

	// Java
	{Code, "java-runtime", 94, []string{"getruntime", "processbuilder", "java.lang.", "java.util.", "java.io.", "java.net.", "javax.", "java/lang"}, re(`getruntime\s*\(?\)?|processbuilder\b.{0,40}[(.]|java[./]lang[./](runtime|process(builder|impl)?|class(loader)?|system|thread|string|reflect)\b|javax\.(script|naming|management|el)|java\.(util\.(scanner|base64|concurrent)|io\.(file|buffered|inputstream|printwriter)|net\.(url|socket)|beans)`), nil},
	{Code, "ognl", 94, []string{"#_memberaccess", "#context", "ognl", "#rt", "@java", "#_", "xwork", "opensymphony", "#parameters", "#application", "redirect:", "redirectaction:", "action:"}, re(`#_memberaccess|#context\s*[\[=.]|ognl\.|@java\.|@ognl|xwork|opensymphony|#(rt|cmd|p|a|b|req|res|out|process)\s*=|(redirect|action|redirectaction):\s*[$%]\{|#_\w+`), nil},
	{Code, "class-loader", 92, []string{"classloader", "class.module", "class.classloader", "getclass", "forname(", ".class."}, re(`class\s*[.\[]\W*(module|classloader)|classloader[.\[]|\.getclass\(|class\.forname|getdeclaredmethod|getmethod\(|newinstance\(`), nil},
	{Code, "spring-expression", 92, []string{"t(java", "t (java", "new java", "t(org", "#this", "spring.cloud", "routing-expression"}, re(`\bt\s*\(\s*(java|org|string|javax)|new\s+java|routing-expression`), nil},
	{Code, "java-names", 70, []string{"com.sun.", "org.apache.", "org.springframework", "com.mchange", "sun.reflect", "bsh.", "freemarker", "org.codehaus", "weblogic.", "groovy."}, re(`(com\.sun\.(rowset|org|jndi|proxy)|org\.apache\.(commons\.(collections|beanutils|io|configuration|jelly|fileupload|jexl)|xalan|struts2|tomcat|bcel|ibatis|myfaces|catalina)|org\.springframework\.(context|beans|aop|expression)|com\.mchange|sun\.reflect|freemarker\.template|org\.codehaus\.groovy|groovy\.(lang|util)|weblogic\.\w+|bsh\.)`), nil},

	// Node, Python, Ruby, Perl, others
	{Code, "node", 92, []string{"child_process", "process.", "require(", "global.process", "_$$nd_func$$_", "mainmodule", "this.constructor", "execsync", "spawnsync", "fs.readfile"}, re(`child_process|process\.(mainmodule|binding|env\.|exit|dlopen|kill|cwd\(|argv|stdin)|require\s*\(\s*['"` + "`" + `](fs|os|net|http|vm|child|crypto)|_\$\$nd_func|mainmodule|this\.constructor\.|(exec|spawn)sync\s*\(|fs\.(readfile|writefile|readdir)`), nil},
	{Code, "prototype", 88, []string{"__proto__", "constructor"}, re(`__proto__|constructor(\]|\.|%5d)?\[?['"]?\.?prototype|constructor\s*[.\[(]\s*['"]?constructor|constructor\s*\(\s*['"]`), nil},
	{Code, "python", 90, []string{"__import__", "os.system", "os.popen", "subprocess", "__class__", "__subclasses__", "__globals__", "__builtins__", "pickle.", "importlib", "builtins.", "__mro__"}, re(`__(import|class|subclasses|globals|builtins|mro|bases?|init|dict|code)__|\bos\.(system|popen|exec\w+|listdir|environ)|subprocess\.(popen|call|run|check)|pickle\.loads|importlib\.|builtins\.`), nil},
	{Code, "ruby", 80, []string{"kernel.", "%x(", "%x{", "io.popen", "file.read(", "file.open", "open3", "erb.new", "instance_eval", "dir.entries", "io.read", "system("}, re(`kernel\.(exec|system|open|fork)|%x[({\[|]|io\.(popen|read)|file\.(read|open)\s*\(|open3\.|erb\.new|instance_eval|dir\.entries`), nil},
	{Code, "perl", 70, []string{"use socket", "print <", "qx{", "qx(", "getppid", "@{["}, re(`use\s+socket|qx[{(/]|getppid\(\)|@\{\[\s*(system|exec|print)`), nil},
	{Code, "asp", 70, []string{"wscript.shell", "server.createobject", "response.write", "execute(", "runat=\"server", "system.diagnostics", "scripting.filesystemobject", "eval request", "request.item", "createobject("}, re(`wscript\.shell|server\.createobject|response\.write\s*\(|execute\s*\(?\s*request|runat="server|system\.diagnostics|scripting\.filesystemobject|eval\s*\(?\s*request|createobject\s*\(`), nil},
	{Code, "coldfusion", 75, []string{"<cf", "evaluate("}, re(`<cf(execute|file|include|query|set|output)`), nil},

	// objects that run when they are read
	{Deserialisation, "java-object", 94, []string{"ro0ab", "aced0005", "\xac\xed\x00\x05", "h4siaaaaaaaa", "kztaaq", "cs7qafc"}, re(`ro0ab[a-z0-9+/]|aced0005|\xac\xed\x00\x05|kztaaq|cs7qafc`), nil},
	{Deserialisation, "php-object", 90, []string{`o:`, `c:`}, re(`(^|[;{:=|\s"'])[oc]:\+?\d+:"[\w\\]+":\+?\d+:\{`), nil},
	{Deserialisation, "dotnet-object", 92, []string{"aaeaaad/////", "typeconfusedelegate", "objectdataprovider", "system.windows.data", "system.diagnostics.process", "losformatter", "binaryformatter", "$type", "resourcedictionary"}, re(`aaeaaad/////|typeconfusedelegate|objectdataprovider|system\.windows\.data|system\.diagnostics\.process|losformatter|binaryformatter|"?\$type"?\s*:?\s*"?system\.|resourcedictionary`), nil},
	{Deserialisation, "python-object", 92, []string{"cos\nsystem", "cposix\n", "c__builtin__", "gasv", "ccopy_reg", "y29zcnnzexn0zw0", "csubprocess", "!!python/"}, re(`c(os|posix|nt)\n(system|popen)|c__builtin__\n|^gasv|ccopy_reg\n|csubprocess\n|!!python/`), nil},
	{Deserialisation, "ruby-object", 85, []string{"!ruby/", "bahbo", "bah7", "\x04\bo:"}, re(`!ruby/(object|hash|struct|array)|^bah[bo7v]|\x04\x08o:`), nil},
	{Deserialisation, "yaml-object", 88, []string{"!!javax", "!!java", "!!com.", "!!org."}, re(`!!(javax?|com|org)\.`), nil},
	{Deserialisation, "xml-object", 90, []string{"<sorted-set", "<dynamic-proxy", "class=\"java.", "class=\"javax", "<java ", "<void ", "event.eventhandler", "<jdk.nashorn", "<org.apache", "<linked-hash-set", "<java.util"}, re(`<sorted-set|<dynamic-proxy|class="javax?\.|<void\s+(method|class|property)|event\.eventhandler|<jdk\.nashorn|<org\.apache\.|<linked-hash-set|<java\.util\.priorityqueue`), nil},
	{Deserialisation, "json-type", 88, []string{"@type", "@class"}, re(`"@(type|class)"\s*:\s*"(com|org|java|javax|br|ch|net|sun)\.|^(com\.sun|org\.apache|javax)\.[\w.]+$`), nil},

	// LDAP, XPath, NoSQL
	// hosts that answer so that somebody elsewhere sees that code ran
	{SSRF, "socket-behind-a-proxy", 92, []string{"unix:"}, re(`\bunix:[^|\s]*\|`), nil},
	{SSRF, "callback-host", 85, []string{"burpcollaborator", "oastify", ".oast.", "interact.sh", "dnslog.", "ceye.io", "bxss.me", "xss.ht", "r87.me"}, re(`[\w-]\.(burpcollaborator\.net|oastify\.com|oast\.(fun|me|pro|live|site|online)|interact\.sh|dnslog\.\w+|ceye\.io|bxss\.me|xss\.ht|r87\.me)\b`), nil},

	{LDAP, "ldap-filter", 90, []string{")(", ") (", ")\t(", ")&(", ")!(", ")|(", "(&", "(|", "(!", "*)"}, re(`\)\s*[|&!]\s*\(\s*[\w.-]+\s*[~<>]?=|\)\s*\(\s*[|&!]?\s*\(?\s*[\w.-]+\s*[~<>]?=|\(\s*[&|!]\s*\(\s*[\w.-]+\s*[~<>]?=|\*\)\s*\(|\)\s*\(\s*[|&]|\*\)\)|\)\)\s*\(\s*[|&]|\)\(\w+=\*|\*\s*\(\s*\|\s*\(`), nil},
	{LDAP, "ldap-matching-rule", 82, []string{":="}, re(`\w:(dn:)?(\d+\.){3,}\d+:=`), nil},
	{LDAP, "ldap-attributes", 70, []string{"objectclass", "samaccountname", "userpassword", "unicodepwd", "objectcategory"}, re(`\(?(objectclass|samaccountname|userpassword|unicodepwd|objectcategory)\s*[~<>]?=\s*[\w*(]`), nil},
	{XPath, "xpath-axis", 82, []string{"::", "position()", "name()", "string-length(", "count(", "text()", "starts-with(", "substring(", "document(", "doc(", "/*", "//*", "system-property", "last()"}, re(`(ancestor|child|descendant|following|preceding|parent|self|attribute|namespace)(-or-self|-sibling)?::(\w+|\*|node)|position\(\)\s*=|(local-)?name\(\s*(/|\.|parent|\))|string-length\(\s*(/|\.|name|//)|count\(\s*(/|//|\.|\w+::)|\btext\(\)\s*[=,\])]|starts-with\(\s*\w+\s*,|substring\(\s*(//|/|name|\.)|doc(ument)?\(\s*(concat|['"])|system-property\(|'\s*\]\s*\||\]\s*\|\s*(//|/\w)|^\s*//?\*|/\*\[\d`), nil},
	{Other, "graphql-introspection", 74, []string{"__schema"}, re(`__schema\s*(\{|\(|@)`), nil},
	{NoSQL, "nosql-operator", 88, []string{"$ne", "$gt", "$lt", "$gte", "$where", "$regex", "$nin", "$in", "$or", "$nor", "$and", "$exists", "$not", "$expr", "$function", "$eq", "$lookup", "$elemmatch"}, re(`(^|[\[{"'\s,(&?])\$(ne|gte?|lte?|where|regex|nin|in|or|and|nor|exists|not|expr|function|accumulator|eq|lookup|elemmatch|jsonschema|comment|type|all|size|mod)("|'|\]|\s*:|$|%22|\\")`), nil},
	{NoSQL, "nosql-script", 85, []string{"this.", "return ", "db.", "sleep(", "mapreduce", "|| 1==1", "||1==1", "1=='1", "'||'", "new date", "tojson("}, re(`this\.\w+\s*(==|\.match|!=|\[)|['"]\s*;\s*return\s|['"]\s*(\|\||&&)\s*['"]?\w+['"]?\s*==|\bdb\.(\w+\.(find|insert|drop|remove|update)|getcollectionnames|version|stats|injection|dropdatabase)|new\s+date\(\)\s*;\s*do|tojson\s*\(|;\s*var\s+\w+\s*=\s*new\s+date|['"]\s*;\s*(sleep|while)\s*\(|\|\|\s*1\s*==\s*1`), nil},

	// includes
	{Include, "server-side-include", 92, []string{"<!--#", "<!-- #", "<esi:", "<!--esi"}, re(`<!--\s*#\s*(exec|include|echo|printenv|config|set|flastmod|fsize|if)|<esi:(include|inline|debug|vars|remove|comment|assign)|<!--esi`), nil},
	{XXE, "xml-entity", 92, []string{"<!entity", "<!doctype"}, re(`<!entity\s+(%\s*)?[\w:.-]+\s+(system|public|["'])|<!doctype\s+[\w:.-]+\s*(\[|system\s|public\s+["'][^-])`), nil},
	{XXE, "xml-include", 85, []string{"xi:include", "2001/xinclude", "xsi:schemalocation", "xml-stylesheet"}, re(`xi:include|2001/xinclude|<\?xml-stylesheet`), nil},
	{XXE, "xslt", 85, []string{"<xsl:", "xsl/transform", "<msxsl", "php:function"}, re(`<xsl:(stylesheet|value-of|template|include|import|copy-of|variable)|<msxsl:script|php:function`), nil},

	// headers that a value adds
	{CRLF, "header-added", 91, []string{"\r", "\n", "\\r", "\\n", "%0d", "%0a", "嘊", "嘍"}, re(`(?:[\r\n]|\\r|\\n|%0d|%0a|嘊|嘍)+\s*(set-cookie|location|content-(type|length|security-policy|disposition)|x-[a-z][a-z-]+|access-control-[a-z-]+|refresh|transfer-encoding|link|status|server|host|last-modified|referer|cookie|http-header|header[-a-z]*|[a-z]+-injected?[-a-z]*|crlf[-a-z]*|test)\s*:[ \t]?\S`), nil},
	{CRLF, "request-line", 85, []string{"http/"}, re(`^\s*(get|post|put|head|delete|options|trace|connect|patch)\s+(https?://|/)\S*\s+http/\d`), nil},
	{CRLF, "line-in-a-name", 80, []string{"\r", "\n"}, nil, []Where{Key}},
	{CRLF, "response-added", 94, []string{"http/1.", "http/0.9", "http/2"}, re(`[\r\n]\s*(http/[012][.\d]*\s+\d{3}|(get|post|put|head|delete|options)\s+\S+\s+http/)`), nil},
	{CRLF, "mail-header-added", 80, []string{"bcc:", "cc:", "to:", "subject:", "mime-version", "rcpt to", "mail from", "content-type:"}, re(`[\r\n]\s*(bcc|cc|mime-version|content-transfer-encoding|content-type)\s*:\s*\S|[\r\n]\s*(to|subject|from)\s*:\s*\S+@|(rcpt\s+to|mail\s+from)\s*:\s*(<|\S+@)|[\r\n]\s*data\s*[\r\n]|[\r\n]+\s*\.[\r\n]+`), nil},
	{CRLF, "mail-command", 80, []string{"a001 ", "v100", "capability", "fetch ", "quit", "retr ", "vrfy", "expn ", "rset", "\nehlo", "\nhelo"}, re(`[\r\n]\s*([a-z]\d{3}\s+(capability|fetch|login|select|logout|create|delete|rename|list|noop|uid|examine)|(vrfy|expn|ehlo|helo|rset|retr|quit|noop|stat|uidl|dele|list)\b)`), nil},

	// others
	{Other, "spreadsheet-formula", 85, []string{"=cmd|", "dde(", "=hyperlink(", "+cmd|", "-cmd|", "@sum(", "msexcel|", "=importxml", "importdata(", "=webservice"}, re(`^\s*["']?\s*[=+@-].{0,40}(cmd\||msexcel\||rundll32\||dde\s*\(|hyperlink\s*\(\s*"http|import(xml|data|feed|html|range)\(|webservice\()|(cmd|msexcel|rundll32|powershell)\|\s*'`), nil},
	{Other, "latex", 88, []string{`\input{`, `\include{`, `\write18`, `\immediate`, `\openin`, `\newread`, `\lstinputlisting`, `\usepackage{verbatim`, `\verbatiminput`, `\catcode`}, re(`\\(input|include|lstinputlisting|verbatiminput)\{\s*[/.|"]|\\write18|\\immediate\\|\\openin|\\newread|\\catcode`), nil},
	{Other, "format-string", 75, []string{"%n%", "%s%s%s", "%x%x%x", "%p%p", "%d%d%d", "%08x"}, re(`(%(\d+\$)?[-#+ 0]*\d*(hh|h|l|ll)?[nspxd][.\-_ ]?){4,}`), nil},
	{Disclosure, "version-control", 60, []string{"/.git", "/.svn", "/.hg", "/.env", "/.ds_store", "/.htaccess", "/.htpasswd", "/wp-config.php", "/.aws", "/.ssh", "/.bash", "/.vscode", "/.idea", "/server-status", "/phpinfo", "/.bzr", "/.npmrc", "/.dockerenv", "/.kube"}, re(`/\.(git|svn|hg|env|ds_store|htaccess|htpasswd|aws|ssh|bash_\w+|bzr|npmrc|dockerenv|kube)([/.?]|$)|wp-config\.php|/server-status|/phpinfo`), []Where{URL}},

	// programs that only look for holes
	{Scanner, "scanner", 85, []string{"sqlmap", "nikto", "nessus", "nmap", "acunetix", "w3af", "dirbuster", "gobuster", "ffuf", "nuclei", "wpscan", "masscan", "zgrab", "openvas", "arachni", "havij", "jorgee", "netsparker", "fuzz faster", "commix", "whatweb", "skipfish", "zmeu", "brutus", "webinspect", "appscan", "burpcollaborator", "paros", "feroxbuster", "dirsearch", "joomscan", "xsser", "vega/", "wfuzz", "grabber", "golismero", "subfinder", "libredtail", "sqlninja", "metis", "nsauditor", "pangolin", "pmafind", "absinthe", "bsqlbf", "cgichk", "core-project", "datacha0s", "hydra", "webshag", "whisker", "prog.customcrawler", "rustbuster", "detectify", "ecairn", "inspathx", "jaeles", "(hydra)", "springenwerk", "struts-pwn", "sysscan", "tscan", "toata", "uil2pn", "voyager", "wapiti", "webtrends security", "xmlrpc exploit", "qualys", "mozilla/4.0 (compatible; msie 6.0; windows nt 5.1; .nettest)", "morfeus", "zaproxy", "owasp zap", "nuclei", "cmsmap", "leakix", "netlab360", "l9explore", "log4shell-", "n-stealth", "secret-scan", "gootkit", "black widow", "grendel", "mysqloit", "floodgate", "crowbar", "interact.sh", "domino hunter", "web-sniffer"}, nil, heads},
}

func (f *finder) patterns() {
	if f.words.none() {
		return
	}
	for i := range patterns {
		p := &patterns[i]
		if !f.words.has(patternBit+i) || !applies(p.where, f.Where) || f.Where == Contents && !ofFiles[p.class] && p.rule != "php-object" || f.Where == Agent && p.class != Scanner && p.score < 80 {
			continue
		}
		if p.re == nil || p.re().MatchString(f.codeOf(p)) {
			f.hit(p.class, p.rule, p.score)
		}
	}
}

// frames are the lines of a Java stack trace and the imports of a program, which people paste into tickets.
var frames = re(`[\w.$/<>@-]+\((\w+\.(java|kt|scala|groovy):\d+|native method|unknown source)\)|\bimport\s+(static\s+)?[\w.*]+;?`)

// codeOf is the text without what only names code.
func (f *finder) codeOf(p *pattern) string {
	if p.rule != "java-runtime" && p.rule != "java-names" && p.rule != "known-java" || !strings.Contains(f.Lower, ".java:") && !strings.Contains(f.Lower, "import ") {
		return f.Lower
	}
	return frames().ReplaceAllString(f.Lower, " ")
}

// aloneSet are the patterns that a single word can fulfil; select by itself is no SQL.
var aloneSet = func() (w wordSet) {
	for i, p := range patterns {
		if p.class == Known || p.class == Deserialisation || p.class == Scanner {
			w.add(patternBit + i)
		}
	}
	return w
}()

// ofFiles are the classes that the contents of a file can be: an upload of prose about shells is none.
var ofFiles = map[Class]bool{XXE: true, Include: true, Upload: true}

func applies(list []Where, w Where) bool {
	if list == nil {
		return true
	}
	for _, x := range list {
		if x == w {
			return true
		}
	}
	return false
}
