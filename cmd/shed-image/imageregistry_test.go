package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild/oci"
)

// What broke off here is told from what broke off there, each with what to do.
func TestExplainRegistry(t *testing.T) {
	full := fmt.Errorf("%w: disk.raw: %w", oci.ErrIncomplete, &os.PathError{Op: "write", Path: "d", Err: syscall.ENOSPC})
	for name, c := range map[string]struct {
		err  error
		code int
		hint string
	}{
		"broke off":     {fmt.Errorf("%w: disk.raw", oci.ErrIncomplete), cli.ExitUnreachable, "hint: run it again"},
		"a full disk":   {full, cli.ExitFailed, "hint: make room and run it again"},
		"without TLS":   {fmt.Errorf("asking: %w", http.ErrSchemeMismatch), cli.ExitFailed, "--plain-http"},
		"not a name":    {oci.ErrReference, cli.ExitUsage, "a repository with a tag"},
		"not as signed": {oci.ErrTampered, cli.ExitRefused, ""},
	} {
		var b bytes.Buffer
		if code := cli.Report(&b, explainRegistry(c.err, "absent"), false); code != c.code || !strings.Contains(b.String(), c.hint) {
			t.Errorf("%s: exit code %d, %s", name, code, b.String())
		}
	}
}
