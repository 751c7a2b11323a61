package cli

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// mayBeEmpty is the annotation of a flag that says something when it is empty.
const mayBeEmpty = "shed_may_be_empty"

// MayBeEmpty has a command take flags that are given and empty, as it says in their
// help. Any other is refused: a script's unset variable leaves it so, and the key,
// check or file that was asked for would be left out without a word.
func MayBeEmpty(cmd *cobra.Command, names ...string) {
	for _, name := range names {
		cobra.CheckErr(cmd.Flags().SetAnnotation(name, mayBeEmpty, nil))
	}
}

// checkFlags refuses what no command takes: a flag that is given and empty, and a wait
// that is over before it begins.
func checkFlags(flags *pflag.FlagSet) (err error) {
	if timeout, none := flags.GetDuration("timeout"); none == nil && timeout <= 0 {
		return Usage(fmt.Errorf("--timeout is %s: want more than no time, such as 30s", timeout))
	}
	flags.Visit(func(flag *pflag.Flag) {
		if _, may := flag.Annotations[mayBeEmpty]; err == nil && !may && isEmpty(flag.Value) {
			err = Usage(fmt.Errorf("--%s is empty", flag.Name))
		}
	})
	return err
}

func isEmpty(v pflag.Value) bool {
	if many, ok := v.(pflag.SliceValue); ok {
		all := many.GetSlice()
		return len(all) == 0 || slices.Contains(all, "")
	}
	return v.String() == ""
}
