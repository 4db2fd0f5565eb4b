// Package bulkhead is a house with faults. Start with [Word] and [Missing].
//
// It promises nothing. It is not for building.
package bulkhead

import _ "bulkhead/rule"

type Word string
