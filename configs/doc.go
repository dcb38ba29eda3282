// Package configs holds what an operator writes: the configuration file of the
// daemon, whose struct is its manual, and the network files. Both are TOML read
// strictly: an unknown key, a wrong type or a bad value is an error that names
// file, line and column.
package configs
