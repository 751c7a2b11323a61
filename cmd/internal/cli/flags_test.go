package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// A flag that is given and empty is wrong usage of any command, but where the command
// takes it so, and so is a wait for no time.
func TestFlagsThatNoCommandTakes(t *testing.T) {
	for _, c := range []struct {
		name    string
		args    []string
		refused string
	}{
		{"not given", nil, ""},
		{"full", []string{"--one=a", "--many=b", "--split=c,d"}, ""},
		{"empty text", []string{"--one="}, "--one is empty"},
		{"empty argument", []string{"--one", ""}, "--one is empty"},
		{"one of many empty", []string{"--many=a", "--many="}, "--many is empty"},
		{"nothing in a list", []string{"--split="}, "--split is empty"},
		{"a list with a hole", []string{"--split=a,"}, "--split is empty"},
		{"of every command", []string{"--state="}, "--state is empty"},
		{"one that may be", []string{"--other="}, ""},
		{"some time", []string{"--timeout=1ms"}, ""},
		{"no time", []string{"--timeout=0s"}, "--timeout is 0s: want more than no time, such as 30s"},
		{"less than none", []string{"--timeout=-1s"}, "--timeout is -1s: want more than no time, such as 30s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ran := false
			root, cmd := &cobra.Command{Use: "program", SilenceErrors: true, SilenceUsage: true}, &cobra.Command{Use: "does", RunE: func(*cobra.Command, []string) error {
				ran = true
				return nil
			}}
			root.AddCommand(cmd)
			root.PersistentFlags().String("state", "default", "")
			cmd.Flags().String("one", "default", "")
			cmd.Flags().StringArray("many", nil, "")
			cmd.Flags().StringSlice("split", nil, "")
			cmd.Flags().String("other", "default", "")
			cmd.Flags().Duration("timeout", time.Second, "")
			MayBeEmpty(cmd, "other")
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), root, append([]string{"does"}, c.args...), &stdout, &stderr)
			want := ExitUsage
			if c.refused == "" {
				want = 0
			}
			if code != want || ran != (c.refused == "") || !strings.Contains(stderr.String(), c.refused) {
				t.Errorf("exit code %d, it ran: %t\n%s", code, ran, stderr.Bytes())
			}
		})
	}
}
