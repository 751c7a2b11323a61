package toolshed_test

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// postgresTool is a program of Debian's PostgreSQL.
func postgresTool(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		t.Skipf("there is no PostgreSQL: %s is missing; make deps installs it", name)
	}
	return found[len(found)-1]
}

// postgres is a server of its own, which ends with the test. It runs as nobody
// where the test is root, as it refuses to be that.
func postgres(t *testing.T) string {
	t.Helper()
	initdb, server := postgresTool(t, "initdb"), postgresTool(t, "postgres")
	dir, err := os.MkdirTemp("", "shed-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	run := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		if os.Geteuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		return cmd
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, 65534, 65534); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run(initdb, "-D", dir+"/data", "-U", "me", "-A", "trust", "--no-sync").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := run(server, "-D", dir+"/data", "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-k", dir, "-c", "fsync=off")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGINT); cmd.Wait() })
	address := fmt.Sprintf("postgres://me@127.0.0.1:%d/postgres?sslmode=disable", port)
	setUp(t, address)
	return address
}

// setUp waits for the server and makes a table.
func setUp(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := pgconn.Connect(context.Background(), address)
		if err == nil {
			defer c.Close(context.Background())
			if err := c.Exec(t.Context(), `CREATE TABLE bread (id int8 PRIMARY KEY, name text, price numeric, at timestamptz, more jsonb, ok bool);
				INSERT INTO bread VALUES (1, 'rye', 4.50, '2026-01-02T03:04:05Z', '{"a": [1]}', true), (2, 'spelt', 'NaN', NULL, NULL, false)`).Close(); err != nil {
				t.Fatal(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("PostgreSQL does not start: %v", err)
		}
	}
}

func TestPostgres(t *testing.T) {
	t.Setenv("PG_URL", postgres(t))
	s := serveWith(t, allowLoopback+`
data:
  external:
    shop: {kind: postgres, url: {env: PG_URL}, max_rows: 100, timeout: 2s}
    mine: {kind: postgres, url: {env: PG_URL}, write: true}
`)
	query := func(want int, name, body string) string {
		t.Helper()
		return asks(t, s, want, "POST", "/api/data/external/"+name+"/query", body)
	}
	text := query(200, "shop", `{"sql":"SELECT * FROM bread WHERE id >= $1 ORDER BY id","parameters":[1]}`)
	for _, want := range []string{
		`"columns":["id","name","price","at","more","ok"]`, `[1,"rye",4.50,"2026-01-02 03:04:05+00",{"a": [1]},true]`, `[2,"spelt","NaN",null,null,false]`,
	} {
		if !strings.Contains(strings.ReplaceAll(text, `{"a":[1]}`, `{"a": [1]}`), want) {
			t.Errorf("%s, want %s", text, want)
		}
	}
	if text := query(200, "shop", `{"sql":"SELECT $1::text, $2::jsonb, $3::bool, $4::text","parameters":["'; DROP TABLE bread; --",{"x":1},true,null]}`); !strings.Contains(text, `"'; DROP TABLE bread; --",{"x":`) {
		t.Errorf("%s", text)
	}
	if text := query(200, "shop", `{"sql":"SELECT generate_series(1, 1000000000)"}`); !strings.Contains(text, `"truncated":true`) || !strings.Contains(text, "[100]]") {
		t.Errorf("%.300s", text)
	}
	for sql, says := range map[string]string{
		"DELETE FROM bread": "reading", "SELECT nonsense": "42703", "SELECT 1; DELETE FROM bread": "42601", "SELECT 1/0": "22012",
		"WITH x AS (DELETE FROM bread RETURNING 1) SELECT 1": "reading",
	} {
		if text := query(422, "shop", `{"sql":"`+sql+`"}`); !strings.Contains(text, says) || !strings.Contains(text, "sql: ") {
			t.Errorf("%s: %s, want %s", sql, text, says)
		}
	}
	// A statement that ends the transaction has ended its connection's.
	for _, sql := range []string{"COMMIT", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "SET TRANSACTION READ WRITE"} {
		ask(t, s, "POST", "/api/data/external/shop/query", `{"sql":"`+sql+`"}`, "Content-Type", "application/json")
		query(422, "shop", `{"sql":"DELETE FROM bread"}`)
	}
	if text := query(504, "shop", `{"sql":"SELECT pg_sleep(60)"}`); !strings.Contains(text, "database-slow") {
		t.Errorf("%s", text)
	}
	if text := query(200, "mine", `{"sql":"UPDATE bread SET price = $1 WHERE id = 1","parameters":[5]}`); !strings.Contains(text, `"changed":1`) {
		t.Errorf("%s", text)
	}
	if text := query(200, "shop", `{"sql":"SELECT count(*), max(price) FROM bread WHERE id = 1"}`); !strings.Contains(text, `[[1,5]]`) {
		t.Errorf("%s", text)
	}
	query(404, "nothing", `{"sql":"SELECT 1"}`)
}

func TestPostgresAway(t *testing.T) {
	t.Setenv("PG_URL", "postgres://me:secret-word@127.0.0.1:1/x?sslmode=disable")
	for allow, config := range map[string]string{"allowed": allowLoopback, "forbidden": ""} {
		s := serveWith(t, config+"data:\n  external:\n    shop: {kind: postgres, url: {env: PG_URL}}\n")
		status, text, h := ask(t, s, "POST", "/api/data/external/shop/query", `{"sql":"SELECT 1"}`, "Content-Type", "application/json")
		wantProblem(t, text, h, 502, "database-failed")
		if status != 502 || strings.Contains(text, "secret-word") {
			t.Errorf("%s: %d %s", allow, status, text)
		}
	}
}

func TestSQLiteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "my files.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE bread (id INTEGER PRIMARY KEY, name TEXT, price REAL); INSERT INTO bread VALUES (1, 'rye', 4.5), (2, 'spelt', NULL)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	s := serveWith(t, fmt.Sprintf("data:\n  external:\n    shop: {kind: sqlite, path: %q, max_rows: 10, timeout: 300ms}\n    mine: {kind: sqlite, path: %q, write: true}\n", path, path))
	query := func(want int, name, body string) string {
		t.Helper()
		return asks(t, s, want, "POST", "/api/data/external/"+name+"/query", body)
	}
	if text := query(200, "shop", `{"sql":"SELECT * FROM bread WHERE name = ?","parameters":["rye"]}`); !strings.Contains(text, `"rows":[[1,"rye",4.5]]`) {
		t.Errorf("%s", text)
	}
	for sql, says := range map[string]string{
		"DELETE FROM bread": "reading", "PRAGMA query_only=0; DELETE FROM bread": "reading", "ATTACH '/tmp/x.db' AS x": "too many attached", "SELECT nonsense": "nonsense",
		"VACUUM INTO '/tmp/x.db'": "", "COMMIT; VACUUM INTO '/tmp/x.db'": "too many attached", "COMMIT; PRAGMA query_only=0; DELETE FROM bread": "reading",
	} {
		if text := query(422, "shop", `{"sql":"`+sql+`"}`); !strings.Contains(text, says) {
			t.Errorf("%s: %s", sql, text)
		}
	}
	endless := `{"sql":"WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM n) SELECT `
	if text := query(504, "shop", endless+`count(*) FROM n"}`); !strings.Contains(text, "database-slow") {
		t.Errorf("%s", text)
	}
	if text := query(200, "shop", endless+`x FROM n"}`); !strings.Contains(text, `"truncated":true`) {
		t.Errorf("%s", text)
	}
	if text := query(200, "mine", `{"sql":"UPDATE bread SET price = ?","parameters":[7]}`); !strings.Contains(text, `"changed":2`) {
		t.Errorf("%s", text)
	}
	if text := query(200, "shop", `{"sql":"SELECT sum(price) FROM bread"}`); !strings.Contains(text, `[[14]]`) {
		t.Errorf("%s", text)
	}
}
