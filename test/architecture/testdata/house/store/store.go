// Package store is right. Start with [Open]. It promises to be so. It is not for harm.
package store

import _ "database/sql"

func Open() {}
