-- Deliveries as they change, for those who follow them: a row for each time that one is made, tried, asked for again or
-- ended; not for a lease. Whatever statement changes how a delivery stands writes it: a trigger would cost more.
CREATE TABLE delivery_change (
    key      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery bigint NOT NULL
);
