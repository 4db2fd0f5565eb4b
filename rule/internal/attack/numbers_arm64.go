package main

// oldNumbers are the system calls that only older machines have under these names: none here.
var oldNumbers = map[string]uintptr{}
