package query

import (
	"slices"

	"github.com/toolshed-cloud/shed/toolshed/profile/rdf"
)

// table is solutions by themselves.
type table struct {
	slots []int
	rows  [][]rdf.Term
}

func (t table) vars() (s set) {
	for _, i := range t.slots {
		s |= 1 << i
	}
	return s
}

func (t table) certain() set {
	s := t.vars()
	for _, row := range t.rows {
		for n, i := range t.slots {
			if row[n].Kind == rdf.None {
				s &^= 1 << i
			}
		}
	}
	return s
}

func (t table) unsafe() set { return 0 }

func (t table) run(x *run, row []rdf.Term, y yield) error {
	for _, values := range t.rows {
		if err := x.step(); err != nil {
			return err
		}
		if err := bindAll(row, t.slots, values, y); err != nil {
			return err
		}
	}
	return nil
}

// subquery is a query with variables of its own, of which some are seen
// outside. Its solutions are found once.
type subquery struct {
	plan  *plan
	found *table
	done  bool
}

func (s *subquery) vars() set    { return s.found.vars() }
func (s *subquery) certain() set { return 0 }
func (s *subquery) unsafe() set  { return 0 }

func (s *subquery) run(x *run, row []rdf.Term, y yield) error {
	if !s.done {
		err := s.plan.solutions(x, func(values []rdf.Term) error {
			s.found.rows = append(s.found.rows, slices.Clone(values))
			return x.hold(values)
		})
		if err != nil {
			return err
		}
		s.done = true
	}
	return s.found.run(x, row, y)
}
