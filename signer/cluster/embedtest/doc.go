// Package embedtest tests package cluster against etcd servers in its own process.
// It is a module of its own so that the server is no dependency of the program.
package embedtest
