package cli

import (
	"testing"

	"github.com/spf13/pflag"
)

func TestRefuseEmpty(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    []string
		refused string
	}{
		{"not given", nil, ""},
		{"full", []string{"--one=a", "--many=b", "--split=c,d"}, ""},
		{"empty text", []string{"--one="}, "--one is empty"},
		{"one of many empty", []string{"--many=a", "--many="}, "--many is empty"},
		{"nothing in a list", []string{"--split="}, "--split is empty"},
		{"a list with a hole", []string{"--split=a,"}, "--split is empty"},
		{"one that may be", []string{"--other="}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			flags := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
			flags.String("one", "default", "")
			flags.StringArray("many", nil, "")
			flags.StringSlice("split", nil, "")
			flags.String("other", "default", "")
			if err := flags.Parse(c.args); err != nil {
				t.Fatal(err)
			}
			err := RefuseEmpty(flags, "one", "many", "split")
			if c.refused == "" {
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			if err == nil || err.Error() != c.refused || ExitCode(err) != ExitUsage {
				t.Errorf("got %v with exit code %d, want %q as wrong usage", err, ExitCode(err), c.refused)
			}
		})
	}
}
