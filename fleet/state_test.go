package fleet

import "testing"

// The whole table: what is not in it does nothing.
func TestNext(t *testing.T) {
	type step struct {
		from State
		e    event
	}
	moves := map[step]State{
		{Creating, started}: Running, {Creating, end}: Ending, {Creating, gone}: Ended,
		{Running, pause}: Paused, {Running, resume}: Running, {Running, end}: Ending,
		{Paused, pause}: Paused, {Paused, resume}: Running, {Paused, end}: Ending,
		{Ending, gone}: Ended,
	}
	for _, from := range States {
		for e := started; e <= gone; e++ {
			want, moves := moves[step{from, e}]
			if !moves {
				want = from
			}
			if to, ok := next(from, e); to != want || ok != moves {
				t.Errorf("next(%s, %d) = %s, %v; want %s, %v", from, e, to, ok, want, moves)
			}
		}
	}
}
