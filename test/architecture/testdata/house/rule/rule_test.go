package rule

import _ "database/sql"
