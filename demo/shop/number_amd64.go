package main

// memfdCreate is the number of memfd_create, which package syscall does not know.
const memfdCreate = 319
