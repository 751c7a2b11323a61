package main

import (
	"strings"
	"testing"
)

const good = `
{"Action":"attr","Package":"p","Test":"TestConformance","Key":"conformance.provider","Value":"qemu"}
{"Action":"pass","Package":"p","Test":"TestConformance/a"}
{"Action":"pass","Package":"p","Test":"TestConformance/a/deeper"}
{"Action":"skip","Package":"p","Test":"TestConformance/b"}
{"Action":"attr","Package":"p","Test":"TestConformance","Key":"conformance.leaks","Value":"0"}
{"Action":"pass","Package":"p","Test":"TestConformance"}
{"Action":"pass","Package":"p"}
`

func TestTally(t *testing.T) {
	for name, test := range map[string]struct {
		in   string
		ok   bool
		last string
	}{
		"all well": {good, true, `{"providers":[{"name":"qemu","cases":2,"passed":1,"skipped":1,"failed":0,"leaks":0}]}`},
		"a failed case": {
			strings.Replace(good, `"pass","Package":"p","Test":"TestConformance/a"}`, `"fail","Package":"p","Test":"TestConformance/a"}`, 1), false,
			`{"providers":[{"name":"qemu","cases":2,"passed":0,"skipped":1,"failed":1,"leaks":0}]}`,
		},
		"a leak": {
			strings.Replace(good, `"Value":"0"`, `"Value":"3"`, 1), false,
			`{"providers":[{"name":"qemu","cases":2,"passed":1,"skipped":1,"failed":0,"leaks":3}]}`,
		},
		"a package that does not build": {"# p\np.go:1: nonsense\n" + `{"Action":"fail","Package":"p"}`, false, `{"providers":[]}`},
		"nothing":                       {"", false, `{"providers":[]}`},
	} {
		var out strings.Builder
		ok, err := tally(strings.NewReader(strings.TrimSpace(test.in)), &out)
		if err != nil || ok != test.ok {
			t.Errorf("%s: %t, %v", name, ok, err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if last := lines[len(lines)-1]; last != test.last {
			t.Errorf("%s: last line %s, want %s", name, last, test.last)
		}
	}
}
