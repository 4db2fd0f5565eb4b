package main

import "net/http"

// consolePages is the console as it was built in; nil when it was not, and the server says so on its page.
func consolePages() http.Handler { return nil }
