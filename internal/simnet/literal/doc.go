// Package literal is Proof of Online as its source text has it, taken at its word.
package literal
