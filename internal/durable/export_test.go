package durable

// WriteFileOn is WriteFile on a file system that fails.
var WriteFileOn = writeFile
