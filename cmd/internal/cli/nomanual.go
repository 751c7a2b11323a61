//go:build !manual

package cli

import "github.com/spf13/cobra"

// addManual does nothing: manual pages are written by a build of their own.
func addManual(*cobra.Command) {}
