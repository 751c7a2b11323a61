package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// RefuseEmpty refuses the named flags where they were given and are empty, as a
// script's unset variable leaves them: what was asked for would not be done, and
// it would look as if it had been.
func RefuseEmpty(flags *pflag.FlagSet, names ...string) (err error) {
	flags.Visit(func(flag *pflag.Flag) {
		if err == nil && slices.Contains(names, flag.Name) && isEmpty(flag.Value) {
			err = Usage(fmt.Errorf("--%s is empty", flag.Name))
		}
	})
	return err
}

// checkFlags refuses what no command takes: a flag that it does nothing without and
// that is empty, and a wait that is over before it begins.
func checkFlags(cmd *cobra.Command) error {
	if timeout, err := cmd.Flags().GetDuration("timeout"); err == nil && timeout <= 0 {
		return Usage(fmt.Errorf("--timeout is %s: want more than no time, such as 30s", timeout))
	}
	return RefuseEmpty(cmd.Flags(), required(cmd)...)
}

// required are the flags that a command does nothing without.
func required(cmd *cobra.Command) (names []string) {
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if flag.Annotations[cobra.BashCompOneRequiredFlag] != nil {
			names = append(names, flag.Name)
		}
	})
	return names
}

func isEmpty(v pflag.Value) bool {
	if many, ok := v.(pflag.SliceValue); ok {
		all := many.GetSlice()
		return len(all) == 0 || slices.Contains(all, "")
	}
	return v.String() == ""
}
