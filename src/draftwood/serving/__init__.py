"""What every door to an engine that serves people holds: requests, options, history, figures."""
