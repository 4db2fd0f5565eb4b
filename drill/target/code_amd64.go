package main

var returnInstruction = []byte{0xc3}
