package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A flag that a command does nothing without is not there where it is empty, and no
// command waits for no time.
func TestFlagsThatNoCommandTakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"work", "--output", "out"}, ExitDone, ""},
		{[]string{"work", "--output", ""}, ExitUsage, "shed: --output is empty\n"},
		{[]string{"work"}, ExitUsage, "shed: required flag(s) \"output\" not set\n"},
		{[]string{"work", "--output", "out", "--note", ""}, ExitDone, ""},
		{[]string{"work", "--output", "out", "--timeout", "1ms"}, ExitDone, ""},
		{[]string{"work", "--output", "out", "--timeout", "0s"}, ExitUsage, "shed: --timeout is 0s: want more than no time, such as 30s\n"},
		{[]string{"work", "--output", "out", "--timeout", "-1s"}, ExitUsage, "shed: --timeout is -1s: want more than no time, such as 30s\n"},
	} {
		root, ran := NewRoot("test"), false
		work := &cobra.Command{Use: "work", RunE: func(*cobra.Command, []string) error {
			ran = true
			return nil
		}}
		work.Flags().String("output", "", "")
		work.Flags().String("note", "", "")
		work.Flags().Duration("timeout", time.Second, "")
		if err := work.MarkFlagRequired("output"); err != nil {
			t.Fatal(err)
		}
		root.AddCommand(work)
		var out, complaint bytes.Buffer
		code := Run(t.Context(), root, c.args, &out, &complaint)
		if code != c.code || complaint.String() != c.says || ran != (c.code == ExitDone) {
			t.Errorf("%q: exit code %d, %q, ran: %v", c.args, code, complaint.String(), ran)
		}
	}
}

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
