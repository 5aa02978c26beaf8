"""From recorded rosbags to synchronised, versioned episodes."""
