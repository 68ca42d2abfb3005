-- Deliveries as they change, for those who follow them: a row for each time that one is made, tried, asked for again or
-- ended; not for a lease. The newest row is always kept, so that no key is given twice.
CREATE TABLE delivery_change (
    key      INTEGER PRIMARY KEY,
    delivery INTEGER NOT NULL
) STRICT;

CREATE TRIGGER delivery_made AFTER INSERT ON delivery
BEGIN
    INSERT INTO delivery_change (delivery) VALUES (new.key);
END;

-- Whoever changes how a delivery stands names its state, also where that stays the same.
CREATE TRIGGER delivery_moved AFTER UPDATE OF state ON delivery
BEGIN
    INSERT INTO delivery_change (delivery) VALUES (new.key);
END;
