package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const run = `{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"=== RUN TestB\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:1: no tool\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
{"Action":"output","Package":"q","Test":"TestC","Output":"    c_test.go:1: broken\n"}
{"Action":"fail","Package":"q","Test":"TestC"}
{"Action":"output","Package":"q","Output":"FAIL\tq\t0.1s\n"}
{"Action":"fail","Package":"q"}
not json
`
	var b strings.Builder
	r := &report{w: &b, output: map[string]*strings.Builder{}}
	r.read(strings.NewReader(run))
	r.close()
	const want = "ok  \tp\t0.1s\n" +
		"    c_test.go:1: broken\n" +
		"FAIL\tq\t0.1s\n" +
		"not json\n" +
		"skipped p TestB: b_test.go:1: no tool\n" +
		"1 passed, 1 failed, 1 skipped\n"
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}
