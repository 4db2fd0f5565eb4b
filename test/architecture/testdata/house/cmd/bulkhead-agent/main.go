// Command bulkhead-agent is right by itself. Start with main. It promises that. It is not big.
package main

import _ "bulkhead/agent"

func main() {}
