package sparql

import "strconv"

func (p *parser) modifiers(q *Query) {
	p.grouping(q)
	p.aggregates = true
	if p.has("HAVING") {
		q.Grouped = true
		for q.Having = append(q.Having, p.constraint()); p.is("(") || p.startsCall(); {
			q.Having = append(q.Having, p.constraint())
		}
	}
	p.ordering(q)
	p.aggregates = false
	for {
		switch {
		case p.has("LIMIT"):
			q.Limit = p.count()
		case p.has("OFFSET"):
			q.Offset = p.count()
		case p.is("VALUES"):
			q.Values = p.values()
			return
		default:
			return
		}
	}
}

func (p *parser) grouping(q *Query) {
	if !p.has("GROUP") {
		return
	}
	p.want("BY")
	q.Grouped = true
	for {
		switch {
		case p.peek().kind == variable:
			q.GroupBy = append(q.GroupBy, Selection{Name: p.variable()})
		case p.has("("):
			s := Selection{As: p.expression()}
			if p.has("AS") {
				s.Name = p.variable()
			}
			p.want(")")
			q.GroupBy = append(q.GroupBy, s)
		case p.startsCall():
			q.GroupBy = append(q.GroupBy, Selection{As: p.primary()})
		default:
			if len(q.GroupBy) == 0 {
				p.fail("%q, want what to group by", p.shown())
			}
			return
		}
	}
}

func (p *parser) ordering(q *Query) {
	if !p.has("ORDER") {
		return
	}
	p.want("BY")
	for {
		var o Order
		switch {
		case p.is("ASC") || p.is("DESC"):
			o.Descending = p.is("DESC")
			p.at++
			p.want("(")
			o.By = p.expression()
			p.want(")")
		case p.peek().kind == variable:
			o.By = Variable{p.variable()}
		case p.is("(") || p.startsCall():
			o.By = p.constraint()
		default:
			if len(q.OrderBy) == 0 {
				p.fail("%q, want what to order by", p.shown())
			}
			return
		}
		q.OrderBy = append(q.OrderBy, o)
	}
}

func (p *parser) count() int {
	t := p.peek()
	n, err := strconv.ParseInt(t.text, 10, 31)
	if t.kind != integer || err != nil {
		p.fail("%q, want a number", p.shown())
	}
	p.at++
	return int(n)
}
