package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/toolshed-cloud/shed/attest/strictjson"
	"github.com/toolshed-cloud/shed/orchestrator"
)

// rowFormat is the number of the format in which an instance's document is
// written. Another set of fields, or another meaning of one, is another
// number, with a migration that rewrites the rows before it.
const rowFormat = 5

// errFormat says that a document is not in the format that this program knows.
var errFormat = errors.New("row format is not known")

// document is an instance as a row holds it.
type document struct {
	Format int `json:"format"`
	orchestrator.Instance
}

func encode(i orchestrator.Instance) (string, error) {
	b, err := json.Marshal(document{Format: rowFormat, Instance: i})
	if err != nil {
		return "", fmt.Errorf("encoding an instance: %w", err)
	}
	return string(b), nil
}

func decode(text string) (orchestrator.Instance, error) {
	var d document
	err := strictly(text, &d)
	if err == nil && d.Format != rowFormat {
		err = fmt.Errorf("%w: it has format %d", errFormat, d.Format)
	}
	if err == nil {
		return d.Instance, nil
	}
	// Another format has other fields too: its number says more.
	var number struct {
		Format int `json:"format"`
	}
	if json.Unmarshal([]byte(text), &number) == nil && number.Format != rowFormat {
		err = fmt.Errorf("%w: it has format %d", errFormat, number.Format)
	}
	return orchestrator.Instance{}, fmt.Errorf("%w; this program knows format %d", err, rowFormat)
}

// strictly decodes one JSON value that has no field which into lacks.
func strictly(text string, into any) error {
	if err := strictjson.Unmarshal([]byte(text), into); err != nil {
		return fmt.Errorf("%w: %w", errFormat, err)
	}
	return nil
}
