-- Keys of events that retention has dropped: the greatest, and for a while some smaller ones.
CREATE TABLE event_dropped (key bigint PRIMARY KEY);
