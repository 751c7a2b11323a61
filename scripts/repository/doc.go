// Package repository holds the repository's own rules as tests.
//
// Invariant: a rule here is one that the linter cannot say, or that matters
// enough to be held twice.
package repository
