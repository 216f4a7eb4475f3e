package bench

import "testing"

func TestPercentileIsOneOfTheValues(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for p, want := range map[float64]float64{0: 1, 20: 1, 21: 2, 50: 3, 90: 5, 100: 5} {
		if got := percentile(values, p); got != want {
			t.Errorf("percentile %v is %v, want %v", p, got, want)
		}
	}
}

func TestASecondIsOfWhatARoundHas(t *testing.T) {
	if row := (Row{Seconds: []float64{2, 2, 9}, Each: 100}).sum(); row.PerSecond != 50 || row.P50 != 2 || row.P99 != 9 {
		t.Errorf("got %+v", row)
	}
}
