// Package pb is the provider contract on the wire, generated from
// provider.proto. Invariant: nothing here is written by hand but the schema,
// and only package plugin imports it; everybody else speaks package providers.
package pb

//go:generate ../../../scripts/generate
