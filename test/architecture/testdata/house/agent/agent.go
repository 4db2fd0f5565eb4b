// Package agent takes a forbidden way. Start with [Run]. It promises that. It is not right.
package agent

import _ "bulkhead/store"

func Run() {}
